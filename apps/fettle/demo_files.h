#pragma once

#include <string>

namespace fettle::cli {

// The model and text that come with the program.
struct DemoFiles {
  std::string model, text;
};

// Looks in $FETTLE_DEMO_DIR, beside the installed program (../share/fettle/models), in the source tree it was built
// from and in the install prefix. Throws kInput naming every place it looked at.
DemoFiles find_demo_files();

}  // namespace fettle::cli
