#pragma once

#include "program.h"

// One function per command, each in its own file cmd_NAME.cpp; main.cpp lists them in the order of --help.
namespace fettle::cli {

void add_all_commands(Program& program);   // the list, commands.cpp
void add_meta_commands(Program& program);  // version, help, completion, man
void add_synth(Program& program);

}  // namespace fettle::cli
