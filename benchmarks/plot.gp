# Two panels, the calls alone and whole steps, both axes logarithmic. Called by plot.sh.
calls = ARG1
steps = ARG2
set terminal pngcairo size 1400, 700 font "sans,11"
set output ARG3
set multiplot layout 1, 2
set logscale x 2
set logscale y 10
set grid xtics ytics linetype 1 linecolor rgb "#dddddd"
set key below samplen 2
set xlabel "tokens"
set ylabel "milliseconds"
set xtics ("1,024" 1024, "2,048" 2048, "4,096" 4096, "8,192" 8192, "16,384" 16384, "32,768" 32768, "65,536" 65536)
set xrange [900:80000]

kinds = "identity elu1 relu favor_relu favor_softmax favor_hyperbolic linformer softmax"
colors = "#000000 #0072b2 #56b4e9 #009e73 #e69f00 #d55e00 #cc79a7 #7f7f7f"
# Linformer has no causal form.
sees(kind) = kind eq "linformer" ? "bidirectional" : "causal"
label(kind) = kind eq "linformer" ? "linformer (bidirectional)" : kind
# The rows of a kind that belong to its curve.
rows(file, kind) = sprintf("< grep '^%s %s ' '%s'", kind, sees(kind), file)

set title "Attention alone, causal, forward and backward"
plot for [i=1:words(kinds)] rows(calls, word(kinds, i)) using 3:4 with linespoints \
  linewidth 2 pointtype 7 pointsize 0.7 linecolor rgb word(colors, i) title label(word(kinds, i)) noenhanced

set title "Training step: width 256, 4 layers, 4 heads"
plot for [i=1:words(kinds)] rows(steps, word(kinds, i)) using 3:4 with linespoints \
  linewidth 2 pointtype 7 pointsize 0.7 linecolor rgb word(colors, i) title label(word(kinds, i)) noenhanced
