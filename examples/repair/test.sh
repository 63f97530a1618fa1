#!/bin/sh
# test.sh PROGRAM: the tests of wrap, for a program made from it. Prints a line for each case and fails if any does.
cases=$(dirname "$0")/cases
failed=0
for in in "$cases"/*.in; do
    name=$(basename "$in" .in)
    if "$1" "$(cat "$cases/$name.width")" <"$in" | cmp -s - "$cases/$name.out"; then
        echo "ok $name"
    else
        echo "not ok $name"
        failed=1
    fi
done
exit $failed
