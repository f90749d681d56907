// What tests say to a worker's step loop, and wait to hear from it.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <variant>

#include "base/clock.h"
#include "comm/mailbox.h"
#include "proto/codec.h"
#include "proto/messages.h"

namespace thermocline::testing {

// Fills in which model: that of a file, which is a valid one.
void SetModel(const std::string& path, proto::AssignPlan* message);

// The next message of that kind; others are dropped. Fails the test, with an empty one, when none
// comes in time.
template <typename Kind>
Kind AwaitMessage(comm::Mailbox& server, Duration patience) {
  const SteadyClock clock;
  while (true) {
    auto received = server.Receive(clock.Now() + patience);
    if (!received.ok() || !*received) {
      ADD_FAILURE() << "nothing came";
      return {};
    }
    auto message = proto::Decode((*received)->frame.header);
    if (message.ok() && std::holds_alternative<Kind>(*message)) return std::get<Kind>(*message);
  }
}

}  // namespace thermocline::testing
