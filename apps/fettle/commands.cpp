#include "commands.h"

namespace fettle::cli {

void add_all_commands(Program& program) {
  add_demo(program);
  add_compress(program);
  add_run(program);
  add_chat(program);
  add_eval(program);
  add_bench(program);
  add_inspect(program);
  add_compare(program);
  add_report(program);
  add_convert(program);
  add_study(program);
  add_synth(program);
  add_tokenize(program);
  add_meta_commands(program);
}

}  // namespace fettle::cli
