# From the complaint back to the write that is wrong. As find.ts does it:
# braid gdb race.rec --run -- -batch -x examples/race/back.gdb examples/race/prebuilt/notices
set pagination off
set confirm off
set width 0

echo \n1. Forwards to where the program notices it\n
break complain
continue
set $notice = notice
set $reader = reader
delete

echo \n2. Backwards to the write that has this reader wait again\n
watch board.notices[$notice].waiting & (1 << $reader)
reverse-continue
backtrace

echo \n3. Backwards to the write that it has undone, while the other hart was between its read and its write\n
reverse-continue
backtrace
info threads
