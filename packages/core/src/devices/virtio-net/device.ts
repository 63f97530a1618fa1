/**
 * The network card (OASIS virtio 1.2, section 5.1): one pair of queues, an address, a link that can be pulled, no offloads.
 *
 *   queue   from the device's side
 *   0       to the guest
 *   1       from the guest
 */

import type { DeviceContext } from '../device.ts';
import { VirtioDevice } from '../virtio/device.ts';
import { DriverError, gather, scatter, slice } from '../virtio/queue.ts';
import type { NetBackend } from './backend.ts';
import { checkVirtioNet, FRAME_MAX, FRAME_MIN, INBOX_FRAMES, TAGGED_FRAME_MAX, type VirtioNetState } from './state.ts';

/** Feature bits (section 5.1.3). */
const MAC = 1n << 5n;
const STATUS = 1n << 16n;

const TO_GUEST = 0;
const FROM_GUEST = 1;

/** struct virtio_net_hdr: without offloads all zero but `num_buffers`, the last two bytes. */
const HEADER_SIZE = 12;
const BUFFERS = 10;

const LINK_UP = 1;

export interface VirtioNetOptions {
  /** Six hexadecimal bytes with colons between them, a unicast address. */
  readonly mac?: string;
}

export class VirtioNet extends VirtioDevice<VirtioNetState> {
  readonly #backend: NetBackend;
  #mac: Uint8Array;
  #linkUp = true;
  #inbox: Uint8Array[] = [];

  /** Throws a `RangeError` for something that is no unicast address. */
  constructor(context: DeviceContext, backend: NetBackend, options: VirtioNetOptions = {}) {
    super(context, { name: 'net', deviceId: 1, features: MAC | STATUS, queueSizes: [256, 256] });
    this.#backend = backend;
    this.#mac = parseMac(options.mac ?? '52:54:00:12:34:56');
  }

  /**
   * A frame arrives from the network: from its destination address on, without check sequence. False when it is lost: the link is
   * down, no driver listens, too many frames wait already, or it is not 14 to 1514 bytes long.
   */
  receive(frame: Uint8Array): boolean {
    if (!this.running || !this.#linkUp || this.#inbox.length >= INBOX_FRAMES) return false;
    if (frame.length < FRAME_MIN || frame.length > FRAME_MAX) return false;
    this.#inbox.push(frame.slice());
    this.serving(() => this.#fill());
    return true;
  }

  get linkUp(): boolean {
    return this.#linkUp;
  }

  /** Plugs the cable in or pulls it. */
  setLink(up: boolean): void {
    if (up === this.#linkUp) return;
    this.#linkUp = up;
    if (!up) this.#inbox = [];
    this.configChanged();
  }

  /** Six bytes; a driver that runs learns of it when it looks again. */
  setAddress(mac: Uint8Array): void {
    this.#mac = mac;
    this.configChanged();
  }

  override save(): VirtioNetState {
    return {
      version: 2,
      transport: this.saveTransport(),
      mac: this.#mac,
      linkUp: this.#linkUp,
      inbox: this.#inbox.map((frame) => frame.slice()),
    };
  }

  override restore(record: unknown): void {
    const state = checkVirtioNet(record, (transport) => this.checkTransport(transport));
    this.#mac = state.mac;
    this.#linkUp = state.linkUp;
    this.#inbox = state.inbox;
    this.restoreTransport(state.transport);
  }

  protected override config(): Uint8Array {
    const config = new Uint8Array(12);
    config.set(this.#mac);
    config[6] = this.#linkUp ? LINK_UP : 0;
    // One pair of queues.
    config[8] = 1;
    return config;
  }

  protected override driverReset(): void {
    this.#inbox = [];
  }

  protected override serve(queue: number): void {
    if (queue === TO_GUEST) this.#fill();
    else this.#drain();
  }

  /** Puts waiting frames into buffers of the guest, one frame a chain. */
  #fill(): void {
    for (let frame = this.#inbox[0]; frame !== undefined; frame = this.#inbox[0]) {
      const chain = this.take(TO_GUEST);
      if (chain === undefined) return;
      const packet = new Uint8Array(HEADER_SIZE + frame.length);
      packet[BUFFERS] = 1;
      packet.set(frame, HEADER_SIZE);
      // Section 5.1.6.3.1: without mergeable buffers each chain has room for a header and the largest frame.
      if (chain.writableLength < packet.length) throw new DriverError('a receive buffer that is too small');
      scatter(this.context.memory, chain.writable, packet);
      this.#inbox.shift();
      this.charge(packet.length);
      this.give(TO_GUEST, chain.head, packet.length);
    }
  }

  /** Sends the guest's frames; those of an impossible size are lost. */
  #drain(): void {
    for (let chain = this.take(FROM_GUEST); chain !== undefined; chain = this.take(FROM_GUEST)) {
      if (chain.readableLength < HEADER_SIZE) throw new DriverError('a packet without a header');
      const length = chain.readableLength - HEADER_SIZE;
      const possible = length >= FRAME_MIN && length <= TAGGED_FRAME_MAX;
      const frame = gather(this.context.memory, possible ? slice(chain.readable, HEADER_SIZE, length) : []);
      this.charge(frame.length);
      this.give(FROM_GUEST, chain.head, 0);
      if (possible && this.#linkUp) this.#backend.send(frame);
    }
  }
}

/** Six hexadecimal bytes with colons between them. Throws a `RangeError` for something that is no unicast address. */
export function parseMac(text: string): Uint8Array {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) throw new RangeError(`not an Ethernet address: ${text}`);
  const mac = Uint8Array.from(text.split(':'), (byte) => Number.parseInt(byte, 16));
  if (((mac[0] as number) & 1) !== 0) throw new RangeError(`a network card cannot have the group address ${text}`);
  return mac;
}
