/** Who was forked from whom, and what a machine that becomes a descendant of its own sends on. */

import type { Held, HostState } from '../pool/protocol.ts';

/** A machine among its kin. */
export interface Kin<M> {
  /** What it was forked from. */
  readonly parent: M | undefined;
  /** Who has become it. */
  readonly adoptedBy: M | undefined;
}

/** The machines from a descendant up to a child of `ancestor`; nothing if it is no descendant. */
export function lineOf<M extends Kin<M>>(descendant: M, ancestor: M): readonly M[] | undefined {
  const line: M[] = [];
  for (let machine = descendant; machine !== ancestor; machine = machine.parent) {
    line.push(machine);
    if (!machine.parent) return undefined;
  }
  return line.length > 0 ? line : undefined;
}

/**
 * What the machines of a line have held back, in order, for their ancestor who becomes the first of them. `host` is what that one has
 * taken along. Programs get the names that the ancestor knows them by; those that were started in between are nobody's.
 */
export function heldOf<M extends Kin<M>>(
  line: readonly M[],
  ancestor: M,
  { held, before }: HostState,
): readonly Held[] {
  return line
    .map((machine, i): readonly Held[] => {
      const own = i === 0 ? held : before[before.length - i];
      // What it held when it was adopted has been sent, and what it held when the next was forked from it was part of that.
      if (!own || (i > 0 && machine.adoptedBy === ancestor)) return [];
      return own.flatMap((item) => renamed(item, line.length - 1 - i) ?? []);
    })
    .reverse()
    .flat();
}

/** Each fork puts a `^` before the names of its parent's programs: here so many of them are taken away. */
function renamed(item: Held, levels: number): Held | undefined {
  if (item.kind === 'console') return item;
  const prefix = '^'.repeat(levels);
  return item.key.startsWith(prefix) ? { ...item, key: item.key.slice(levels) } : undefined;
}
