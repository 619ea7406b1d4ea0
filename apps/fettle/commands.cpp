#include "commands.h"

namespace fettle::cli {

void add_all_commands(Program& program) {
  add_synth(program);
  add_meta_commands(program);
}

}  // namespace fettle::cli
