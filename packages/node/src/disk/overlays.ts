/** The overlays of a machine's disks. Images in files and in memory answer at once, so none of this waits. */

import { OverlayBackend } from '@braid/core/disk/overlay.ts';
import type { Machine } from '@braid/core/machine/machine.ts';

function overlaysOf(machine: Machine): OverlayBackend[] {
  const overlays = machine.platform.backends
    .map(({ inner }) => inner)
    .filter((inner) => inner instanceof OverlayBackend);
  // What a machine that has left a recording writes goes with it.
  return overlays.filter(({ partial }) => !partial);
}

/** Makes what has been written durable, in the journal of an image that is frozen. */
export function flushDisks(machine: Machine): void {
  for (const overlay of overlaysOf(machine)) overlay.flush();
}

/** Brings what has been written into the images, which nobody else may use. */
export function commitDisks(machine: Machine): void {
  for (const overlay of overlaysOf(machine)) overlay.commit();
}

/** From now on the images are written again. */
export function thawDisks(machine: Machine): void {
  for (const overlay of overlaysOf(machine)) overlay.thaw();
}
