// BLOSUM62: how often evolution swaps amino acids (Henikoff and Henikoff 1992, "Amino acid
// substitution matrices from protein blocks").
#pragma once

#include <string_view>
#include <vector>

namespace longscan {

/// The twenty amino acids, in the order of the first tokens of Vocabulary::protein().
inline constexpr std::string_view kAminoAcids = "ACDEFGHIKLMNPQRSTVWY";

/// Log-odds in half bits of a pair of amino acids: twice the logarithm to base 2 of how much more
/// often the pair stands in a column of aligned proteins than chance would put it there. Throws
/// internal for other letters.
int blosum62(char a, char b);

/// All of them, [20, 20] in the order of kAminoAcids.
std::vector<double> blosum62_matrix();

}  // namespace longscan
