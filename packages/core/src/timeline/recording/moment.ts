/** A moment of a recording, in the three ways that it is known by. */

import { type Position, U63 } from '../../machine/log.ts';
import { MAX_HARTS } from '../../memory/layout.ts';
import type { ByteReader, ByteWriter } from './bytes.ts';

export interface Moment {
  /** Steps since the recording began. */
  readonly at: bigint;
  readonly position: Position;
  /** Guest time, in ns. */
  readonly time: bigint;
}

/** A slice is no longer. */
const MAX_STEP = 2 ** 30;

export function writeMoment(writer: ByteWriter, { at, position, time }: Moment): void {
  writer.wide(at);
  writer.wide(position.round);
  writer.number(position.hart);
  writer.number(position.step);
  writer.wide(time);
}

export function readMoment(reader: ByteReader): Moment {
  const at = reader.wide();
  const position = { round: reader.wide(), hart: reader.number(MAX_HARTS - 1), step: reader.number(MAX_STEP) };
  return { at, position, time: reader.wide(U63) };
}
