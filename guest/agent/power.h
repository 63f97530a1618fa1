/* The end of the machine. */
#ifndef POWER_H
#define POWER_H

/*
 * End every other process, leave the file systems clean, and switch off: `how` is an RB_ value of reboot(2).
 * For the first process, or one that no other will miss. Returns only if the kernel refuses.
 */
void switch_off(int how);

#endif
