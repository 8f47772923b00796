// Panels are placed by the pixel, so that axes and colour boxes of all of them line up.
#include "launch/heat_map.h"

#include <fmt/format.h>

#include <algorithm>

#include "launch/gnuplot.h"

namespace longscan {

namespace {

// Pixels.
constexpr std::int64_t kMapSide = 1500;  // of all panels together, where they have room
constexpr std::int64_t kLargestPanel = 640;
constexpr std::int64_t kSmallestPanel = 120;
constexpr std::int64_t kLeft = 76;
constexpr std::int64_t kRight = 74;
constexpr std::int64_t kAbove = 30;
constexpr std::int64_t kBelow = 52;
constexpr std::int64_t kTitle = 40;
constexpr std::int64_t kColourBox = 10;
constexpr std::int64_t kLetter = 9;  // the least that a label takes

/// In gnuplot's single quotes.
std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char letter : text) {
    if (letter == '\'') result += '\'';
    result += letter;
  }
  return result + "'";
}

const char* colours_of(Palette palette) {
  return palette == Palette::one_sided
             ? "(0 '#ffffff', 1 '#d9f0d3', 2 '#7bccc4', 3 '#2b8cbe', 4 '#084081', 5 '#041b38')"
             : "(0 '#2166ac', 1 '#92c5de', 2 '#f7f7f7', 3 '#f4a582', 4 '#b2182b')";
}

class Layout {
 public:
  explicit Layout(const HeatMap& map)
      : across_(map.panels_across),
        down_((std::ssize(map.panels) + across_ - 1) / across_),
        side_(panel_side(across_, down_)) {}

  std::int64_t side() const { return side_; }
  std::int64_t width() const { return across_ * (kLeft + side_ + kRight); }
  std::int64_t height() const { return kTitle + down_ * (kAbove + side_ + kBelow); }
  bool is_left(std::int64_t panel) const { return panel % across_ == 0; }
  bool is_lowest(std::int64_t panel) const { return panel + across_ >= across_ * down_; }

  /// Margins and colour box of a panel.
  std::string place(std::int64_t panel) const {
    const std::int64_t left = panel % across_ * (kLeft + side_ + kRight) + kLeft;
    const std::int64_t top = kTitle + panel / across_ * (kAbove + side_ + kBelow) + kAbove;
    return fmt::format(
        "set lmargin at screen {}\nset rmargin at screen {}\n"
        "set tmargin at screen {}\nset bmargin at screen {}\n"
        "set colorbox user origin screen {}, screen {} size screen {}, screen {}\n",
        x(left), x(left + side_), y(top), y(top + side_), x(left + side_ + 8), y(top + side_),
        x(kColourBox), 1 - y(side_));
  }

 private:
  double x(std::int64_t pixel) const {
    return static_cast<double>(pixel) / static_cast<double>(width());
  }
  double y(std::int64_t pixel) const {
    return 1 - static_cast<double>(pixel) / static_cast<double>(height());
  }

  std::int64_t across_;
  std::int64_t down_;
  std::int64_t side_;
};

/// Every label where they have room, else numbers.
std::string tics(const HeatMap& map, const Layout& layout) {
  if (map.labels.empty() || layout.side() < kLetter * map.size) return "set tics out nomirror\n";
  std::string places;
  for (std::size_t i = 0; i < map.labels.size(); ++i) {
    places += fmt::format("{}{} {}", i == 0 ? "" : ", ", quoted(map.labels[i]), i);
  }
  const std::int64_t size = std::clamp<std::int64_t>(layout.side() / map.size * 2 / 3, 7, 11);
  return fmt::format(
      "set tics scale 0 nomirror\n"
      "set xtics ({0}) font ',{1}' noenhanced\nset ytics ({0}) font ',{1}' noenhanced\n",
      places, size);
}

std::string heading(const HeatMap& map, const Layout& layout) {
  const double last = static_cast<double>(map.size) - 0.5;
  return fmt::format(
      "set terminal pngcairo size {}, {} font 'DejaVu Sans,9' background '#ffffff'\n"
      "set multiplot title {} font ',12' noenhanced\n"
      "set object 1 rectangle from graph 0, graph 0 to graph 1, graph 1 behind "
      "fillcolor '#d8d8d8' fillstyle solid noborder\n"
      "set border linewidth 0.5 linecolor '#606060'\n"
      "set xrange [-0.5:{}]\nset yrange [{}:-0.5]\nset cbtics font ',8'\n{}",
      layout.width(), layout.height(), quoted(map.title), last, last, tics(map, layout));
}

std::string panel_script(const HeatMap& map, const Layout& layout, std::int64_t index) {
  const HeatMapPanel& panel = map.panels[static_cast<std::size_t>(index)];
  const Cells& cells = panel.cells;
  const double first = static_cast<double>(cells.merged - 1) / 2;
  std::string script = layout.place(index);
  script += fmt::format("set title {} font ',10' noenhanced offset 0, -0.5\n", quoted(panel.title));
  script += fmt::format("set xlabel {} noenhanced\n",
                        layout.is_lowest(index) ? quoted(map.columns) : quoted(""));
  script += fmt::format("set ylabel {} noenhanced\n",
                        layout.is_left(index) ? quoted(map.rows) : quoted(""));
  script += fmt::format("set palette defined {}\nset cbrange [{}:{}]\n", colours_of(panel.palette),
                        panel.low, panel.high);
  script += fmt::format(
      "plot '-' binary array=({0},{0}) dx={1} dy={1} origin=({2},{2}) format='%float32' "
      "endian=little with image notitle\n",
      cells.across, cells.merged, first);
  script.append(reinterpret_cast<const char*>(cells.values.data()),
                cells.values.size() * sizeof(float));
  return script;
}

}  // namespace

std::int64_t panel_side(std::int64_t across, std::int64_t down) {
  return std::clamp(kMapSide / std::max(across, down), kSmallestPanel, kLargestPanel);
}

Cells cells_of(std::span<const float> matrix, std::int64_t size, std::int64_t most) {
  Cells cells{.merged = (size + most - 1) / most};
  cells.across = (size + cells.merged - 1) / cells.merged;
  for (std::int64_t row = 0; row < size; row += cells.merged) {
    for (std::int64_t column = 0; column < size; column += cells.merged) {
      const std::int64_t rows = std::min(cells.merged, size - row);
      const std::int64_t columns = std::min(cells.merged, size - column);
      float sum = 0;
      for (std::int64_t i = 0; i < rows * columns; ++i) {
        sum += matrix[static_cast<std::size_t>((row + i / columns) * size + column + i % columns)];
      }
      cells.values.push_back(sum / static_cast<float>(rows * columns));
    }
  }
  return cells;
}

void draw_heat_map(const HeatMap& map, const std::filesystem::path& path) {
  const Layout layout(map);
  std::string script = heading(map, layout);
  for (std::int64_t panel = 0; panel < std::ssize(map.panels); ++panel) {
    script += panel_script(map, layout, panel);
  }
  script += "unset multiplot\n";
  run_gnuplot(script, path);
}

}  // namespace longscan
