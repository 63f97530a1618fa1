/** Where the blocks of an overlay are. */

/** Bytes of a block of an overlay. */
export const BLOCK = 4096;

/** A map from block numbers to blocks that a machine has to itself, or shares with its forks until one of them writes. */
export interface BlockMap {
  /** The block's bytes, or undefined where the base is to be read. A view that is valid until the next call. */
  get(block: number): Uint8Array | undefined;
  /**
   * The block's bytes for writing: made present (zeroed, and `fresh` is true) if it was not, and owned by this map alone. Throws
   * when there is no room for it, and has changed nothing then. A view that is valid until the next call.
   */
  own(block: number): { bytes: Uint8Array; fresh: boolean };
  /** Makes a block present and zero; many such blocks take little room. Throws when there is no room for it. */
  zero(block: number): void;
  /** Present blocks whose content is not shared with `other` (without it all present ones), ascending. */
  changed(other?: BlockMap): Iterable<number>;
  /** Makes every block absent. */
  clear(): void;
  /** Gives up all that the map holds; it cannot be used afterwards. */
  free(): void;
}
