#include "tests/unit/house/include_rules.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/support/test_paths.h"

namespace thermocline::house {
namespace {

TEST(IncludeRules, AnUpwardIncludeIsNamedWithFileLineAndFloor) {
  const auto found = FindViolations("kernels/cpu/add.cc", "// add\n#include \"model/graph.h\"\n");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0], "kernels/cpu/add.cc:2 kernels must not include model/graph.h");
}

TEST(IncludeRules, WorkerAndCoordinatorAreStrangers) {
  EXPECT_EQ(FindViolations("worker/stage.cc", "#include \"coordinator/engine.h\"\n").size(), 1u);
  EXPECT_EQ(FindViolations("coordinator/engine.cc", "#include \"worker/stage.h\"\n").size(), 1u);
  EXPECT_EQ(FindViolations("coordinator/engine.cc", "#include \"kernels/ops.h\"\n").size(), 1u);
}

TEST(IncludeRules, DownwardIncludesAndOwnFolderAreFine) {
  const char* source =
      "#include \"worker/stage.h\"\n#include \"base/status.h\"\n"
      "#include \"placement/plan.h\"\n#include <vector>\n";
  EXPECT_TRUE(FindViolations("worker/step_loop.cc", source).empty());
}

TEST(IncludeRules, OnlyValueHeadersOfPlacementReachTheWorker) {
  EXPECT_EQ(FindViolations("worker/stage.cc", "#include \"placement/solver.h\"\n").size(), 1u);
}

TEST(IncludeRules, ALibraryStaysInItsHome) {
  EXPECT_EQ(FindViolations("coordinator/engine.cc", "#include <boost/beast.hpp>\n").size(), 1u);
  EXPECT_EQ(FindViolations("worker/stage.cc", "#include \"proto/messages.pb.h\"\n").size(), 1u);
  EXPECT_TRUE(FindViolations("comm/zmq_socket.cc", "#include <zmq.h>\n").empty());
}

TEST(IncludeRules, HoldForTheWholeTree) {
  const std::filesystem::path root = testing::SourceDir();
  int n_files = 0;
  for (const char* folder : {"base", "model", "kernels", "comm", "placement", "proto", "worker",
                             "coordinator", "tools"}) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder)) {
      const std::string extension = entry.path().extension();
      if (extension != ".h" && extension != ".cc" && extension != ".cu" && extension != ".cuh") {
        continue;
      }
      std::ostringstream source;
      source << std::ifstream(entry.path()).rdbuf();
      const std::string path = std::filesystem::relative(entry.path(), root);
      for (const std::string& violation : FindViolations(path, source.str())) {
        ADD_FAILURE() << violation;
      }
      ++n_files;
    }
  }
  EXPECT_GT(n_files, 100) << "the tree was not found at " << root;
}

}  // namespace
}  // namespace thermocline::house
