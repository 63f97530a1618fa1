/** What a virtual disk remembers besides its content: the transport and the requests under way. */

import { Fields } from '../../state/check.ts';
import { StateError } from '../../state/errors.ts';
import type { Segment } from '../virtio/queue.ts';
import type { TransportState } from '../virtio/state.ts';

/** Entries of the request queue, at most. */
export const QUEUE_SIZE = 256;

/**
 * A request that was submitted and is answered at guest time `due`. Nothing of it has happened before: the disk and the guest's
 * buffers change at that moment, so a restored machine has nothing to repeat and nothing to lose.
 */
export interface BlockRequest {
  /** The chain, as the driver knows it. */
  head: number;
  /** VIRTIO_BLK_T_*, as the driver gave it. */
  type: number;
  sector: bigint;
  /** What the disk takes or fills, in RAM. */
  data: Segment[];
  /** Where the status byte goes, in RAM. */
  statusAddress: number;
  /** Guest time in nanoseconds. */
  due: bigint;
}

export interface VirtioBlockState {
  readonly version: 1;
  transport: TransportState;
  /** Oldest first; they are due in this order. */
  requests: BlockRequest[];
  /** Guest time until which the disk moves data of requests that were submitted already. */
  busyUntil: bigint;
}

/** Checks all but the transport, which it hands to `transport`. Whether addresses lie in RAM is for the device to check. */
export function checkVirtioBlock(
  record: unknown,
  transport: (record: unknown, requests: number) => TransportState,
  where = 'block',
): VirtioBlockState {
  const fields = new Fields(record, where);
  fields.version(1);
  const requests = fields.list('requests', 0, QUEUE_SIZE, checkRequest);
  for (const [index, { due }] of requests.entries()) {
    if (index > 0 && due < (requests[index - 1] as BlockRequest).due) {
      throw new StateError(`${where}.requests[${index}].due`, 'is before that of the request before');
    }
  }
  const state: VirtioBlockState = {
    version: 1,
    transport: transport(fields.record('transport'), requests.length),
    requests,
    busyUntil: fields.u64('busyUntil'),
  };
  fields.end();
  return state;
}

function checkRequest(record: unknown, where: string): BlockRequest {
  const fields = new Fields(record, where);
  const request: BlockRequest = {
    head: fields.integer('head', 0, QUEUE_SIZE - 1),
    type: fields.integer('type', 0, 0xffff_ffff),
    sector: fields.u64('sector'),
    data: fields.list('data', 0, QUEUE_SIZE + 1, checkSegment),
    statusAddress: fields.integer('statusAddress', 0, Number.MAX_SAFE_INTEGER),
    due: fields.u64('due'),
  };
  fields.end();
  return request;
}

function checkSegment(record: unknown, where: string): Segment {
  const fields = new Fields(record, where);
  const segment: Segment = {
    address: fields.integer('address', 0, Number.MAX_SAFE_INTEGER),
    length: fields.integer('length', 1, 0xffff_ffff),
  };
  fields.end();
  return segment;
}
