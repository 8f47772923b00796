// Matrices as a picture: one panel each, side by side and below each other.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace longscan {

enum class Palette {
  one_sided,  ///< white to dark, for numbers from 0 on
  two_sided   ///< blue over white to red, for numbers on both sides of a middle
};

/// A matrix in few enough cells for a panel.
struct Cells {
  std::int64_t across = 0;    ///< cells a row and a column
  std::int64_t merged = 1;    ///< rows and columns of the matrix that a cell is the mean of
  std::vector<float> values;  ///< [across, across]; NaN stays grey
};
/// matrix: [size, size]. At most `most` cells across; the last ones are means of what is left.
Cells cells_of(std::span<const float> matrix, std::int64_t size, std::int64_t most);
/// Pixels across a panel, of so many side by side and below each other.
std::int64_t panel_side(std::int64_t across, std::int64_t down);

struct HeatMapPanel {
  std::string title;
  Cells cells;
  double low = 0;  ///< has the palette's first colour, as everything below
  double high = 1;
  Palette palette = Palette::one_sided;
};

struct HeatMap {
  std::string title;
  std::int64_t size = 0;            ///< rows and columns of the matrices
  std::string rows;                 ///< what they are
  std::string columns;              ///< what they are
  std::vector<std::string> labels;  ///< of rows and columns alike; shown where there is room
  std::int64_t panels_across = 1;
  std::vector<HeatMapPanel> panels;
};

/// Writes a PNG. Throws what run_gnuplot throws.
void draw_heat_map(const HeatMap& map, const std::filesystem::path& path);

}  // namespace longscan
