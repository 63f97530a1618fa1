/** What a virtual network card is plugged into. */

/** Takes the frames that the guest sends. Frames to the guest go through the card's `receive`. */
export interface NetBackend {
  /** An Ethernet frame from its destination address on, without check sequence; the array is the backend's to keep. */
  send(frame: Uint8Array): void;
}

/** A cable that ends nowhere: frames vanish. */
export const noneBackend: NetBackend = { send: () => {} };
