/**
 * A disk of a machine that can be forked: a base, and an overlay of 4 KiB blocks that hides what it covers.
 *
 * While nobody else uses the base the disk is transparent: everything goes to the base. At a fork it is frozen (`freeze`): parent
 * and children write to their overlays, whose maps they share, and the base stays as it is. When the others are gone, `commit`
 * brings what the overlay holds into the base and `thaw` makes the disk transparent again.
 *
 * What the guest reads does not depend on any of that, nor on when it happens. A call answers at once if the base does. A base
 * that fails leaves every block as it was before the call, or as the call was to make it; a write of which the base has to supply
 * the rest of a block changes nothing before it has all of it. After an error for lack of room the same call can be made again.
 *
 * Costs: a copy a block, and one call of the base for each run of absent blocks; a write that covers part of an absent block reads
 * that block first. Clearing reads absent blocks first too, so that those which are zero in the base take no room; over a base that has
 * only a part of the disk it does not, and cleared blocks share a frame.
 */

import type { BlockBackend } from '../devices/virtio-block/backend.ts';
import { BLOCK, type BlockMap } from './block-map.ts';
import { DiskError } from './errors.ts';

/** Blocks that clearing looks at in one call of the base. */
const CLEARED_AT_ONCE = 64;

/** What makes an overlay durable, and brings it into the base so that a crash at any instant leaves all of it or nothing. */
export interface OverlayJournal {
  /**
   * Makes blocks of the map durable together: after a crash all of them are there, or none. With `whole` they are all that the
   * overlay holds, and what was appended before is void.
   */
  append(map: BlockMap, blocks: readonly number[], whole: boolean): void | Promise<void>;
  /** Brings the map, all of which was appended, into the base, and forgets what was appended. */
  apply(map: BlockMap): void | Promise<void>;
}

export interface OverlayOptions {
  /** Whether the guest is told that it may not write; as the base by default. */
  readonly readOnly?: boolean;
  /** Whether the base may not be written, from the start on. */
  readonly frozen?: boolean;
  /**
   * Makes a flush durable while the base is frozen. Without it, as in a branch that nobody keeps, the overlay is gone with its
   * machine, and `commit` writes to the base without protection against a crash.
   */
  readonly journal?: OverlayJournal;
}

export class OverlayBackend implements BlockBackend {
  readonly size: bigint;
  readonly readOnly: boolean;
  readonly #base: BlockBackend;
  readonly #map: BlockMap;
  readonly #journal: OverlayJournal | undefined;
  #frozen: boolean;
  /** Whether the journal holds the overlay but for the blocks in `#unsaved`. */
  #saved = false;
  #unsaved = new Set<number>();
  /** Calls that have not ended. */
  #underWay = 0;

  constructor(base: BlockBackend, map: BlockMap, options: OverlayOptions = {}) {
    this.size = base.size;
    this.readOnly = options.readOnly ?? base.readOnly;
    this.#base = base;
    this.#map = map;
    this.#journal = options.journal;
    this.#frozen = options.frozen ?? false;
  }

  /** Where what was written is. */
  get map(): BlockMap {
    return this.#map;
  }

  /** The map has become another one: nothing is known of what a journal holds of it. */
  remapped(): void {
    this.#saved = false;
    this.#unsaved.clear();
  }

  /** Whether its base is one that nobody writes, and that has only a part of the disk. */
  get partial(): boolean {
    return this.#base.partial ?? false;
  }

  /** What it covers. */
  get base(): BlockBackend {
    return this.#base;
  }

  get frozen(): boolean {
    return this.#frozen;
  }

  /** From now on the base is only read. No call may be under way. */
  freeze(): void {
    this.#idle('frozen');
    this.#frozen = true;
  }

  /** From now on the base is written. The overlay must be empty: `commit` comes first. */
  thaw(): void {
    this.#idle('thawed');
    for (const block of this.#map.changed()) {
      throw new DiskError(`the disk cannot be thawed: its overlay holds block ${block}; commit it first`);
    }
    this.#frozen = false;
  }

  /**
   * Brings the overlay into the base, durably, and empties it. Nobody else may use the base. If it fails the overlay is as before
   * and the disk as good as before, so it can be called again.
   */
  commit(): void | Promise<void> {
    this.#idle('committed');
    if (!this.#frozen) return this.#base.flush();
    const journal = this.#journal;
    const brought = () => {
      this.#map.clear();
      this.#unsaved.clear();
      this.#saved = false;
    };
    return this.#during(
      journal
        ? after(
            after(this.#save(journal), () => journal.apply(this.#map)),
            brought,
          )
        : after(this.#copy(), brought),
    );
  }

  release(): void {
    this.#map.free();
  }

  read(offset: number, into: Uint8Array): void | Promise<void> {
    const absent: Piece[] = [];
    for (const piece of pieces(offset, into.length)) {
      const bytes = this.#map.get(piece.block);
      const last = absent.at(-1);
      if (bytes) into.set(bytes.subarray(piece.within, piece.within + piece.length), piece.from);
      else if (last && last.from + last.length === piece.from) last.length += piece.length;
      else absent.push(piece);
    }
    return inTurn(absent.values(), ({ from, length }) =>
      this.#base.read(offset + from, into.subarray(from, from + length)),
    );
  }

  /** What the disk holds without its overlay. */
  readBelow(offset: number, into: Uint8Array): void | Promise<void> {
    return this.#base.read(offset, into);
  }

  write(offset: number, bytes: Uint8Array): void | Promise<void> {
    this.#writable();
    if (!this.#frozen) return this.#during(this.#base.write(offset, bytes));
    const touched = pieces(offset, bytes.length);
    const completed = touched
      .filter((piece) => piece.length < this.#length(piece.block) && this.#map.get(piece.block) === undefined)
      .map(({ block }) => ({ block, content: new Uint8Array(this.#length(block)) }));
    const fetched = inTurn(completed.values(), ({ block, content }) => this.#base.read(block * BLOCK, content));
    const put = () => {
      for (const { block, within, from, length } of touched) {
        const { bytes: own, fresh } = this.#map.own(block);
        this.#note(block);
        if (fresh && length < this.#length(block)) own.set(completed.find((one) => one.block === block)!.content);
        own.set(bytes.subarray(from, from + length), within);
      }
    };
    return this.#during(after(fetched, put));
  }

  /** While the disk is frozen, this is durable only as far as the journal makes it so. */
  flush(): void | Promise<void> {
    const flushed = this.#base.flush();
    const journal = this.#journal;
    if (!this.#frozen || journal === undefined) return flushed;
    return this.#during(after(flushed, () => this.#save(journal)));
  }

  discard(offset: number, length: number): void | Promise<void> {
    const base = this.#base;
    if (this.#frozen || base.discard === undefined) return this.zero(offset, length);
    this.#writable();
    return this.#during(base.discard(offset, length));
  }

  zero(offset: number, length: number): void | Promise<void> {
    this.#writable();
    const base = this.#base;
    if (!this.#frozen) {
      return this.#during(base.zero ? base.zero(offset, length) : base.write(offset, new Uint8Array(length)));
    }
    const end = offset + length;
    const first = Math.ceil(offset / BLOCK);
    const last = end === Number(this.size) ? Math.ceil(end / BLOCK) : Math.floor(end / BLOCK);
    if (first >= last) return this.write(offset, new Uint8Array(length));
    const head = first * BLOCK - offset;
    const tail = Math.max(0, end - last * BLOCK);
    const chunks = Array.from({ length: Math.ceil((last - first) / CLEARED_AT_ONCE) }, (_, i) => {
      const from = first + i * CLEARED_AT_ONCE;
      return { from, to: Math.min(from + CLEARED_AT_ONCE, last) };
    });
    const edges = () =>
      after(head > 0 ? this.write(offset, new Uint8Array(head)) : undefined, () =>
        tail > 0 ? this.write(last * BLOCK, new Uint8Array(tail)) : undefined,
      );
    return this.#during(
      after(
        inTurn(chunks.values(), (chunk) => this.#clear(chunk.from, chunk.to)),
        edges,
      ),
    );
  }

  prefetch(offset: number, length: number): void {
    this.#base.prefetch?.(offset, length);
  }

  /** Makes the blocks `from` to `to` (exclusive) read as zeroes. */
  #clear(from: number, to: number): void | Promise<void> {
    const blocks = Array.from({ length: to - from }, (_, i) => from + i);
    if (this.#base.partial) {
      for (const block of blocks) {
        this.#map.zero(block);
        this.#note(block);
      }
      return undefined;
    }
    const below = new Uint8Array((to - 1 - from) * BLOCK + this.#length(to - 1));
    const allPresent = blocks.every((block) => this.#map.get(block) !== undefined);
    return after(allPresent ? undefined : this.#base.read(from * BLOCK, below), () => {
      for (const [i, block] of blocks.entries()) {
        const content = this.#map.get(block) ?? below.subarray(i * BLOCK, (i + 1) * BLOCK);
        if (isZero(content)) continue;
        this.#map.own(block).bytes.fill(0);
        this.#note(block);
      }
    });
  }

  #note(block: number): void {
    if (this.#journal) this.#unsaved.add(block);
  }

  /** Brings the journal up to date. After a failure the next time writes all anew: nothing is known about what was written. */
  #save(journal: OverlayJournal): void | Promise<void> {
    const whole = !this.#saved;
    if (!whole && this.#unsaved.size === 0) return undefined;
    const blocks = whole ? [...this.#map.changed()] : [...this.#unsaved].sort((a, b) => a - b);
    this.#saved = false;
    this.#unsaved = new Set();
    return after(journal.append(this.#map, blocks, whole), () => {
      this.#saved = true;
    });
  }

  #copy(): void | Promise<void> {
    const base = this.#base;
    if (base.readOnly) throw new DiskError('the overlay cannot be committed: its base is read-only');
    const write = (block: number) => base.write(block * BLOCK, this.#map.get(block)!.slice(0, this.#length(block)));
    return after(inTurn([...this.#map.changed()].values(), write), () => base.flush());
  }

  /** Bytes of a block that are within the disk. */
  #length(block: number): number {
    return Math.min(BLOCK, Number(this.size) - block * BLOCK);
  }

  #writable(): void {
    if (this.readOnly) throw new DiskError('the disk is read-only');
  }

  #idle(what: string): void {
    if (this.#underWay > 0) throw new DiskError(`the disk cannot be ${what} while a call is under way`);
  }

  #during(answer: void | Promise<void>): void | Promise<void> {
    if (answer === undefined) return undefined;
    this.#underWay++;
    return answer.finally(() => {
      this.#underWay--;
    });
  }
}

/** What a range has of one block, or of several. */
interface Piece {
  readonly block: number;
  /** Where it begins in the block. */
  readonly within: number;
  /** Where it begins in the range. */
  readonly from: number;
  length: number;
}

/** A range cut at the borders of blocks. */
function pieces(offset: number, length: number): Piece[] {
  const cut: Piece[] = [];
  for (let from = 0; from < length; from += cut.at(-1)!.length) {
    const at = offset + from;
    const block = Math.floor(at / BLOCK);
    const within = at - block * BLOCK;
    cut.push({ block, within, from, length: Math.min(BLOCK - within, length - from) });
  }
  return cut;
}

/** One step an item, each after the end of the one before; a promise only if a step gives one. */
function inTurn<T>(items: Iterator<T>, step: (item: T) => void | Promise<void>): void | Promise<void> {
  for (let next = items.next(); !next.done; next = items.next()) {
    const answer = step(next.value);
    if (answer !== undefined) return answer.then(() => inTurn(items, step));
  }
  return undefined;
}

function after(first: void | Promise<void>, next: () => void | Promise<void>): void | Promise<void> {
  return first === undefined ? next() : first.then(next);
}

/** Of bytes at a multiple of 4, as many as a multiple of 4. */
function isZero(bytes: Uint8Array): boolean {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  for (let i = 0; i < words.length; i++) if (words[i] !== 0) return false;
  return true;
}
