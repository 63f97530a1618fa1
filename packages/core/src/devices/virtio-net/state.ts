/** What the network card remembers: the transport, the state of its link, and frames that wait for buffers. */

import { bytesItem, Fields } from '../../state/check.ts';
import type { TransportState } from '../virtio/state.ts';

/** An Ethernet frame without check sequence, without and with a VLAN tag. */
export const FRAME_MIN = 14;
export const FRAME_MAX = 1514;
export const TAGGED_FRAME_MAX = 1518;

/** Frames that wait, at most. */
export const INBOX_FRAMES = 256;

export interface VirtioNetState {
  readonly version: 2;
  transport: TransportState;
  /** Six bytes. */
  mac: Uint8Array;
  linkUp: boolean;
  /** Frames for the guest, oldest first. */
  inbox: Uint8Array[];
}

/** Checks all but the transport, which it hands to `transport`. */
export function checkVirtioNet(
  record: unknown,
  transport: (record: unknown) => TransportState,
  where = 'net',
): VirtioNetState {
  const fields = new Fields(record, where);
  fields.version(2);
  const state: VirtioNetState = {
    version: 2,
    transport: transport(fields.record('transport')),
    mac: fields.bytes('mac', 6, 6),
    linkUp: fields.flag('linkUp'),
    inbox: fields.list('inbox', 0, INBOX_FRAMES, bytesItem(FRAME_MIN, FRAME_MAX)),
  };
  fields.end();
  return state;
}
