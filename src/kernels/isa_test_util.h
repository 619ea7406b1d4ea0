#pragma once

#include <gtest/gtest.h>

#include "base/cpu.h"

namespace fettle::kernels::test {

// Runs body at every instruction-set level of this machine.
template <class Body>
void for_each_isa(const Body& body) {
  for (Isa isa : supported_isas()) {
    SCOPED_TRACE(isa_name(isa));
    force_isa(isa);
    body();
  }
  unforce_isa();
}

}  // namespace fettle::kernels::test
