# fettle_room(NAME DEPS rooms... LIBS external targets... SOURCES ... TESTS ... BENCHES ...)
# One static library per room (fettle_NAME), one unit-test binary (NAME_test) and one benchmark binary (NAME_bench).
# -Wno-restrict: g++ 12 reports false overlaps for operator+(const char*, std::string&&) (GCC bug 105651). Warnings are
# errors with the compiler we release with; clang, used for fuzzing, has its own opinion on conversions.
set(FETTLE_WARNINGS -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND FETTLE_WARNINGS -Wno-restrict -Werror)
endif()
set(FETTLE_NUMERICS -ffp-contract=off)

function(fettle_target_options target)
  target_compile_options(${target} PRIVATE ${FETTLE_WARNINGS} ${FETTLE_NUMERICS})
  if((FETTLE_SANITIZE OR FETTLE_PCH) AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # g++ 12 misreads instrumented and precompiled library templates: std::regex as uninitialised, std::string and
    # std::vector<bool> as overflowing.
    target_compile_options(${target} PRIVATE -Wno-maybe-uninitialized -Wno-stringop-overflow -Wno-array-bounds)
  endif()
  if(FETTLE_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${FETTLE_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(${target} PRIVATE -fsanitize=${FETTLE_SANITIZE})
  endif()
  if(FETTLE_FUZZ)
    target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
  endif()
endfunction()

# Precompiled headers halve a build from nothing. Not with ccache, which finds more of an older build without them; those
# builds also keep the warnings that g++ 12 gets wrong in precompiled headers.
if(CMAKE_CXX_COMPILER_LAUNCHER)
  option(FETTLE_PCH "Precompile the headers that most files include" OFF)
else()
  option(FETTLE_PCH "Precompile the headers that most files include" ON)
endif()

# Target whose precompiled headers others reuse: of the kind (EXECUTABLE: -fPIE) and with the options of those others.
function(fettle_pch name)
  cmake_parse_arguments(P "EXECUTABLE" "" "LIBS;HEADERS;OPTIONS;DEFINITIONS" ${ARGN})
  if(NOT EXISTS ${CMAKE_BINARY_DIR}/${name}.cpp)
    file(WRITE ${CMAKE_BINARY_DIR}/${name}.cpp "int main() {}\n")
  endif()
  if(P_EXECUTABLE)
    add_executable(${name} ${CMAKE_BINARY_DIR}/${name}.cpp)
  else()
    add_library(${name} OBJECT ${CMAKE_BINARY_DIR}/${name}.cpp)
  endif()
  target_link_libraries(${name} PRIVATE ${P_LIBS})
  target_compile_definitions(${name} PRIVATE ${P_DEFINITIONS})
  fettle_target_options(${name})
  target_compile_options(${name} PRIVATE ${P_OPTIONS})
  target_precompile_headers(${name} PRIVATE ${P_HEADERS})
endfunction()

set(FETTLE_TEST_OPTIONS $<$<CONFIG:Release>:-O1>)  # tests compile quicker and still run in seconds
set(FETTLE_TEST_DEFINITIONS FETTLE_SOURCE_DIR="${CMAKE_SOURCE_DIR}" FETTLE_TEST_DATA="${CMAKE_SOURCE_DIR}/tests/data")

macro(fettle_make_pch)
  if(FETTLE_PCH)
    set(FETTLE_STD_HEADERS <algorithm> <array> <cmath> <cstdint> <functional> <map> <memory> <optional> <span> <string>
      <string_view> <unordered_map> <utility> <vector> <fmt/format.h>)
    fettle_pch(fettle_std_pch LIBS fmt::fmt Threads::Threads HEADERS ${FETTLE_STD_HEADERS})
    if(FETTLE_BUILD_TESTS)
      fettle_pch(fettle_test_pch EXECUTABLE LIBS fmt::fmt Threads::Threads GTest::gmock GTest::gtest OPTIONS ${FETTLE_TEST_OPTIONS}
        DEFINITIONS ${FETTLE_TEST_DEFINITIONS} HEADERS ${FETTLE_STD_HEADERS} <gmock/gmock.h> <gtest/gtest.h>)
    endif()
  endif()
endmacro()

# fettle_gtest(NAME LABEL LIBS targets... SOURCES ...): a GoogleTest binary NAME_test, run by ctest as NAME.
function(fettle_gtest name label)
  cmake_parse_arguments(T "" "" "LIBS;SOURCES" ${ARGN})
  add_executable(${name}_test ${T_SOURCES})
  target_link_libraries(${name}_test PRIVATE ${T_LIBS} GTest::gmock GTest::gtest GTest::gtest_main)
  target_compile_definitions(${name}_test PRIVATE ${FETTLE_TEST_DEFINITIONS})
  fettle_target_options(${name}_test)
  target_compile_options(${name}_test PRIVATE ${FETTLE_TEST_OPTIONS})
  if(FETTLE_PCH)
    target_precompile_headers(${name}_test REUSE_FROM fettle_test_pch)
  endif()
  add_test(NAME ${name} COMMAND ${name}_test)
  set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT 900)
endfunction()

function(fettle_room name)
  cmake_parse_arguments(R "" "" "DEPS;LIBS;SOURCES;TESTS;TEST_LIBS;BENCHES" ${ARGN})
  add_library(fettle_${name} STATIC ${R_SOURCES})
  add_library(fettle::${name} ALIAS fettle_${name})
  target_include_directories(fettle_${name} PUBLIC
    $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/src> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/fettle>)
  set_target_properties(fettle_${name} PROPERTIES EXPORT_NAME ${name})
  target_compile_features(fettle_${name} PUBLIC cxx_std_20)
  foreach(dep ${R_DEPS})
    target_link_libraries(fettle_${name} PUBLIC fettle_${dep})
  endforeach()
  target_link_libraries(fettle_${name} PUBLIC ${R_LIBS})
  fettle_target_options(fettle_${name})
  set_property(GLOBAL APPEND PROPERTY FETTLE_ROOMS fettle_${name})

  if(FETTLE_PCH)
    target_precompile_headers(fettle_${name} REUSE_FROM fettle_std_pch)
  endif()

  if(FETTLE_BUILD_TESTS AND R_TESTS)
    fettle_gtest(${name} unit LIBS fettle_${name} ${R_TEST_LIBS} SOURCES ${R_TESTS})
  endif()
  if(FETTLE_BUILD_BENCHES AND R_BENCHES)
    add_executable(${name}_bench ${R_BENCHES})
    target_link_libraries(${name}_bench PRIVATE fettle_${name} benchmark::benchmark benchmark::benchmark_main)
    fettle_target_options(${name}_bench)
  endif()
endfunction()
