/** What the source of entropy remembers: where in which stream it is. */

import { Fields } from '../../state/check.ts';
import { KEY_SIZE } from '../chacha20.ts';
import type { TransportState } from '../virtio/state.ts';

export interface VirtioEntropyState {
  readonly version: 1;
  transport: TransportState;
  /** The key of the stream. */
  key: Uint8Array;
  /** Bytes of the stream that were given out. */
  position: bigint;
}

/** Checks all but the transport, which it hands to `transport`. */
export function checkVirtioEntropy(
  record: unknown,
  transport: (record: unknown) => TransportState,
  where = 'entropy',
): VirtioEntropyState {
  const fields = new Fields(record, where);
  fields.version(1);
  const state: VirtioEntropyState = {
    version: 1,
    transport: transport(fields.record('transport')),
    key: fields.bytes('key', KEY_SIZE, KEY_SIZE),
    position: fields.u64('position'),
  };
  fields.end();
  return state;
}
