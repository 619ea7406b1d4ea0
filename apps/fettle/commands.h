#pragma once

#include "program.h"

// One function per command or small family of commands, each in its own file cmd_NAME.cpp.
namespace fettle::cli {

void add_all_commands(Program& program);  // in the order of --help: commands.cpp

void add_bench(Program& program);
void add_chat(Program& program);
void add_compare(Program& program);
void add_compress(Program& program);
void add_convert(Program& program);
void add_demo(Program& program);
void add_eval(Program& program);
void add_inspect(Program& program);        // inspect, verify
void add_meta_commands(Program& program);  // version, help, completion, man
void add_report(Program& program);
void add_run(Program& program);
void add_study(Program& program);
void add_synth(Program& program);
void add_tokenize(Program& program);  // tokenize, detokenize

}  // namespace fettle::cli
