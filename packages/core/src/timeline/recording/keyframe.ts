/**
 * A keyframe as bytes: the machine's state at a moment, by what differs from the keyframe before.
 *
 *     keyframe = stretch | moment | steps | hash, sized | number of the first page content | 1 if these have hashes, else 0 |
 *                pages | disks | written blocks of each disk, ascending | record, as encodeState has it
 *     pages    = how many | for each, ascending: 2 * gap, + 1 for one that is zero and has no content among those of the file
 *
 * Numbers as in bytes.ts. `steps`: those that the harts have made, all together. The page contents are those of consecutive numbers.
 */

import type { MachineRecord } from '../../machine/save.ts';
import { encodeState } from '../../state/encode.ts';
import { type ByteReader, ByteWriter } from './bytes.ts';
import { MAX_DISKS } from './info.ts';
import { type Moment, readMoment, writeMoment } from './moment.ts';

/** Set in the number of a page that is zero. */
export const ZERO_PAGE = 0x8000_0000;

export interface KeyframeHead {
  readonly stretch: number;
  readonly moment: Moment;
  readonly steps: bigint;
  readonly hash: string;
  readonly firstContent: number;
  readonly hashed: boolean;
}

export interface KeyframeContent extends KeyframeHead {
  /** Guest page numbers, ascending, with `ZERO_PAGE` for those without content. */
  readonly pages: Uint32Array;
  /** By disk: blocks written since the keyframe before, ascending. */
  readonly written: readonly Uint32Array[];
  /** `decodeState` gives the record. */
  readonly record: Uint8Array;
}

/** The record's own idea of when it is. */
export function momentOf({ schedule, clock }: MachineRecord, at: bigint): Moment {
  return { at, position: { round: schedule.round, hart: schedule.hart, step: schedule.step }, time: clock.now };
}

/** Steps that the harts of a record have made. */
export function stepsOf({ harts }: MachineRecord): bigint {
  return harts.reduce((sum, hart) => sum + hart.fields.stepsEnd, 0n);
}

/** What a keyframe says, while its pages are still being found. */
export class KeyframeEncoder {
  private readonly head = new ByteWriter();
  private readonly pages = new ByteWriter();
  private readonly tail: Uint8Array;
  private count = 0;
  private next = 0;

  constructor(
    head: Omit<KeyframeHead, 'firstContent' | 'hashed'>,
    written: readonly Uint32Array[],
    record: MachineRecord,
  ) {
    this.head.number(head.stretch);
    writeMoment(this.head, head.moment);
    this.head.wide(head.steps);
    const hash = new TextEncoder().encode(head.hash);
    if (hash.length > MAX_HASH) throw new RangeError(`a hash of ${hash.length} bytes`);
    this.head.sized(hash);
    const tail = new ByteWriter();
    tail.number(written.length);
    for (const blocks of written) tail.ascending(blocks);
    tail.raw(encodeState(record));
    this.tail = tail.take();
  }

  page(page: number, zero: boolean): void {
    if (page < this.next) throw new RangeError(`page ${page} is not above the one before it`);
    this.pages.number(2 * (page - this.next) + (zero ? 1 : 0));
    this.next = page + 1;
    this.count++;
  }

  finish(firstContent: number, hashed: boolean): Uint8Array {
    const { head } = this;
    head.number(firstContent);
    head.u8(hashed ? 1 : 0);
    head.number(this.count);
    head.raw(this.pages.take());
    head.raw(this.tail);
    return head.take();
  }
}

/** Throws `StateError`. `limit`: pages of RAM. */
export function decodeKeyframe(reader: ByteReader, limit: number): KeyframeContent {
  const stretch = reader.number();
  const moment = readMoment(reader);
  const steps = reader.wide();
  const hash = new TextDecoder().decode(reader.sized(MAX_HASH));
  const firstContent = reader.number();
  const hashed = reader.number(1) === 1;
  const pages = new Uint32Array(reader.number(Math.min(limit, reader.left)));
  let next = 0;
  for (let i = 0; i < pages.length; i++) {
    const coded = reader.number(2 * limit);
    const page = next + (coded >>> 1);
    if (page >= limit) reader.fail(`page ${page} is beyond the machine's memory`);
    pages[i] = coded & 1 ? page | ZERO_PAGE : page;
    next = page + 1;
  }
  const written = Array.from({ length: reader.number(MAX_DISKS) }, () => reader.ascending(2 ** 32));
  return { stretch, moment, steps, hash, firstContent, hashed, pages, written, record: reader.raw(reader.left) };
}

const MAX_HASH = 64;
