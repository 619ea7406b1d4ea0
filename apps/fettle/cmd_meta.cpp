#include "base/cpu.h"
#include "commands.h"
#include "context.h"
#include "version.h"

namespace fettle::cli {
namespace {

struct MetaOptions {
  std::string topic, shell;
  bool json = false;
};

void print_version(bool json) {
  if (json) {
    Json out = Json::object();
    out["version"] = kVersion;
    out["commit"] = kCommit;
    out["compiler"] = kCompiler;
    out["isa"] = isa_name(active_isa());
    out["cpu"] = cpu_model();
    print_json(out);
    return;
  }
  print(fmt::format("fettle {} ({})\nbuilt with {}, kernels at level {} on {}\n", kVersion, kCommit, kCompiler,
                    isa_name(active_isa()), cpu_model()));
}

}  // namespace

void add_meta_commands(Program& program) {
  auto o = std::make_shared<MetaOptions>();
  program.add("version", "print version, build and the kernel level in use")
      .toggle("--json", &o->json, "print one machine-readable object")
      .on_run([o] { print_version(o->json); });
  program.add("help", "explain fettle or one command")
      .positional("COMMAND", &o->topic, "command to explain", false)
      .on_run([o, &program] {
        if (o->topic.empty()) return print(usage_text(program));
        const Command* c = program.find(o->topic);
        if (c == nullptr) fail(ErrorCode::kUsage, "fettle help: unknown command '{}'", printable(o->topic));
        print(help_text(*c));
      });
  program.add("completion", "print a shell completion script")
      .positional("SHELL", &o->shell, "shell")
      .choices({"bash", "zsh", "fish"})
      .details("Load it with, for example: source <(fettle completion bash)")
      .on_run([o, &program] { print(completion_script(program, o->shell)); });
  program.add("man", "print the manual page (roff)").details("Read it with: fettle man | man -l -").on_run([&program] {
    print(man_page(program));
  });
}

}  // namespace fettle::cli
