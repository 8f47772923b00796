// Standard output as a person sees it: lines, and below them one live line that is drawn over.
#pragma once

#include <string>

namespace longscan {

class Terminal {
 public:
  Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;
  /// Leaves the live line standing.
  ~Terminal();

  /// Columns of the terminal that shows this; 0 where the output goes into a file or a pipe.
  int width() const { return width_; }

  /// Prints a line; the live line goes out of its way.
  void print(const std::string& line);
  /// Draws the live line; to be called only on a terminal.
  void draw(const std::string& line);

 private:
  void erase();

  int width_;
  std::string live_;
};

}  // namespace longscan
