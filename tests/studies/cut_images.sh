#!/bin/bash
# Makes a set of images out of another in idx form, for tasks that are alike and yet not the same.
#
#   cut_images.sh IMAGES OUTPUT CLASSES FIRST COUNT [TURNS [SHUFFLE]]
#
# IMAGES is a file *-images-idx3-ubyte or idx4, .gz or not, with its labels beside it. Of the images of CLASSES ("5,7,9",
# which become 0, 1 and 2, or "all") those from number FIRST on, COUNT of them, go to OUTPUT-images-idxN-ubyte and
# OUTPUT-labels-idx1-ubyte: turned by TURNS quarters, and with pixels in an order that SHUFFLE, a seed above 0, draws.
# Needs perl.
set -euo pipefail
[ $# -ge 5 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
labels=$(sed 's/-images-idx[34]-/-labels-idx1-/' <<<"$1")
[ "$labels" != "$1" ] && [ -r "$labels" ] || { echo "$1: no labels beside it" >&2; exit 1; }
perl -e '
    my ($images, $labels, $output, $classes, $first, $count, $turns, $shuffle) = @ARGV;
    sub slurp { my $f; open($f, "-|", "gzip", "-dcf", $_[0]) or die; binmode $f; local $/; my $all = <$f>; close $f; $all }
    my ($i, $l) = (slurp($images), slurp($labels));
    my $head = substr($i, 0, 4);
    my $form = ord(substr($head, 3, 1));
    my $begin = 4 + 4 * $form;
    my @shape = (unpack("N$form", substr($i, 4, 4 * $form)), 1);
    my ($all, $rows, $columns, $channels) = @shape;
    die "$images: turns need square images\n" if $turns % 4 && $rows != $columns;
    my @class = $classes eq "all" ? 0 .. 255 : split(/,/, $classes);
    my %new; @new{@class} = 0 .. $#class;
    my @from = (0 .. $rows * $columns - 1);
    for (1 .. $turns % 4) { @from = map { my ($r, $c) = (int($_ / $columns), $_ % $columns); $from[$c * $columns + $rows - 1 - $r] } 0 .. $#from }
    if ($shuffle) { my $x = $shuffle; for (my $k = $#from; $k > 0; $k--) { $x = ($x * 1103515245 + 12345) % 2147483648; my $j = int($x / 65536) % ($k + 1); @from[$k, $j] = @from[$j, $k] } }
    my @byte = map { my $p = $_; map { $p * $channels + $_ } 0 .. $channels - 1 } @from;
    my ($pixels, $kept, $seen, $n) = ("", "", 0, 0);
    my $size = $rows * $columns * $channels;
    for (my $k = 0; $k < $all && $n < $count; $k++) {
        my $class = ord(substr($l, 8 + $k, 1));
        next unless exists $new{$class};
        next if $seen++ < $first;
        my @p = unpack("C$size", substr($i, $begin + $k * $size, $size));
        $pixels .= pack("C$size", @p[@byte]);
        $kept .= chr($new{$class});
        $n++;
    }
    die "$images: $n images of classes $classes from $first on, not $count\n" if $n < $count;
    sub write_to { my $f; open($f, ">", $_[0]) or die "$_[0]: $!\n"; binmode $f; print $f $_[1]; close $f or die }
    write_to("$output-images-idx$form-ubyte", $head . pack("N*", $n, $rows, $columns, $form == 4 ? $channels : ()) . $pixels);
    write_to("$output-labels-idx1-ubyte", pack("N*", 2049, $n) . $kept);
' "$1" "$labels" "$2" "$3" "$4" "$5" "${6:-0}" "${7:-0}"
