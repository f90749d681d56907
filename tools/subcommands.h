// The subcommands of the front program and the programs behind them.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace thermocline::tools {

// "serve" -> "thermocline-coordinator". kInvalidArgument names the nearest command to a wrong one.
Result<std::string> FindSubcommand(std::string_view command);

// One indented line per command, for --help.
std::string ListSubcommands();

// llama.cpp's short flags of several letters as the long ones they mean: "-np" -> "--parallel".
// Anything else stays as it is.
std::string LongSpelling(const std::string& argument);

// Whether an argument is a word behind one dash ("-ngl"), which is no option here; letter by letter
// it would mean others.
bool IsUnknownShortWord(std::string_view argument);

// How many single-letter edits turn one word into another (Levenshtein 1966).
int EditDistance(std::string_view a, std::string_view b);

}  // namespace thermocline::tools
