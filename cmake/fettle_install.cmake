# `cmake --install`: the program with man page and shell completions, the room libraries with their headers as CMake
# package `fettle`, the demo's model and text. Included last, when all targets exist.
include(CMakePackageConfigHelpers)

get_property(rooms GLOBAL PROPERTY FETTLE_ROOMS)

# One name for consumers: target_link_libraries(app PRIVATE fettle::fettle).
add_library(fettle_all INTERFACE)
add_library(fettle::fettle ALIAS fettle_all)
target_link_libraries(fettle_all INTERFACE ${rooms})
set_target_properties(fettle_all PROPERTIES EXPORT_NAME fettle)

set(FETTLE_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/fettle)
install(TARGETS ${rooms} fettle_all EXPORT fettleTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT fettleTargets NAMESPACE fettle:: DESTINATION ${FETTLE_CMAKE_DIR})
install(DIRECTORY src/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/fettle FILES_MATCHING PATTERN "*.h" PATTERN "*test*.h" EXCLUDE)

configure_package_config_file(cmake/fettle-config.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/fettle-config.cmake
  INSTALL_DESTINATION ${FETTLE_CMAKE_DIR})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/fettle-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/fettle-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/fettle-config-version.cmake
  DESTINATION ${FETTLE_CMAKE_DIR})

install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
if(EXISTS ${CMAKE_SOURCE_DIR}/models)
  install(DIRECTORY models DESTINATION ${CMAKE_INSTALL_DATADIR}/fettle)
endif()

# Written by the program itself, so that they always match its options.
if(TARGET fettle AND NOT FETTLE_SANITIZE AND NOT CMAKE_CROSSCOMPILING)
  set(generated ${CMAKE_BINARY_DIR}/share)
  file(MAKE_DIRECTORY ${generated})
  add_custom_command(
    OUTPUT ${generated}/fettle.1 ${generated}/fettle.bash ${generated}/_fettle ${generated}/fettle.fish
    COMMAND fettle man > ${generated}/fettle.1
    COMMAND fettle completion bash > ${generated}/fettle.bash
    COMMAND fettle completion zsh > ${generated}/_fettle
    COMMAND fettle completion fish > ${generated}/fettle.fish
    DEPENDS fettle
    COMMENT "Writing man page and shell completions" VERBATIM)
  add_custom_target(fettle_manual ALL
    DEPENDS ${generated}/fettle.1 ${generated}/fettle.bash ${generated}/_fettle ${generated}/fettle.fish)
  install(FILES ${generated}/fettle.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  install(FILES ${generated}/fettle.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME fettle)
  install(FILES ${generated}/_fettle DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
  install(FILES ${generated}/fettle.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endif()
