/** What a clone sends outside is held back, in bounded memory, until it is adopted. A machine that is no clone holds nothing back. */

import { BraidError } from '../errors.ts';
import type { Held, HostState } from '../pool/protocol.ts';

/** What a clone may send outside before it is adopted, bookkeeping included. */
const LIMIT = 32 * 2 ** 20;
/** What an item takes besides its bytes. */
const ITEM = 256;

export class HeldOutput {
  private items: Held[] | undefined;
  private bytes = 0;
  /** Of a clone of clones: what each of its ancestors had held back when it was forked from them. */
  private before: HostState['before'] = [];
  private readonly overflow: (error: BraidError) => void;

  constructor(overflow: (error: BraidError) => void) {
    this.overflow = overflow;
  }

  /** Whether the machine is a clone. */
  get active(): boolean {
    return this.items !== undefined;
  }

  /** As it travels with the machine. */
  get state(): Pick<HostState, 'held' | 'before'> {
    return { held: this.items, before: this.before };
  }

  /** As it begins for a clone of the machine. */
  get ofClones(): Pick<HostState, 'held' | 'before'> {
    return { held: undefined, before: this.items ? [...this.before, [...this.items]] : [] };
  }

  /** Goes on from a state that has travelled; a new `clone` has held back nothing. */
  arrive({ held, before }: Pick<HostState, 'held' | 'before'>, clone: boolean): void {
    this.items = clone ? [] : held && [...held];
    this.bytes = (this.items ?? []).reduce((sum, item) => sum + sizeOf(item), 0);
    this.before = before;
  }

  /** Holds back something, if that is the machine's way. */
  add(item: Held): void {
    if (!this.items) return;
    this.items.push(item);
    this.bytes += sizeOf(item);
    if (this.bytes <= LIMIT) return;
    const why = `what the clone has sent outside takes more than ${LIMIT} bytes; adopt it sooner, or have it say less`;
    this.overflow(new BraidError('ERR_BRAID_HELD', why));
  }
}

function sizeOf(item: Held): number {
  return ITEM + ('bytes' in item ? item.bytes.length : 0);
}
