/**
 * Who uses the images of a machine's disks: the machine, which writes them, and its clones and fork points, which need them as they were.
 * When the last of these is gone, what the machine has written meanwhile is brought into the images.
 */

import type { LeftDisk } from '../pool/protocol.ts';
import { FileBackend } from './file-backend.ts';

export class DiskUsers {
  private others = 0;
  /** Gone with the machine. */
  private commit: (() => Promise<unknown>) | undefined;
  private left: readonly LeftDisk[] = [];
  /** The commit that is under way, or was last. */
  private last: Promise<unknown> = Promise.resolve();

  /** `commit`: brings the machine's overlays into the images; a machine that writes no disk has none. */
  constructor(commit: (() => Promise<unknown>) | undefined) {
    this.commit = commit;
  }

  /** Whether the images may not be written. */
  get frozen(): boolean {
    return this.others > 0;
  }

  /** A clone or a fork point; the result says that it is gone. */
  join(): () => void {
    this.others++;
    let there = true;
    return () => {
      if (!there) return;
      there = false;
      this.others--;
      if (this.others === 0) this.last = this.last.then(() => this.bringUpToDate());
    };
  }

  private async bringUpToDate(): Promise<void> {
    if (this.frozen) return;
    const left = this.left;
    this.left = [];
    // What fails is as it was: in the overlay, or in the journal that the next one who opens the image finds.
    await this.commit?.().catch(() => {});
    for (const { path, lock } of left) {
      new FileBackend(path, false, { lock }).close();
      new FileBackend(path, false, { raw: true }).close();
    }
  }

  /** The machine is in another thread, where its images are frozen at first. */
  moved(): void {
    this.last = this.last.then(() => this.bringUpToDate());
  }

  /** The machine is gone, and has left these disks with journals. */
  ended(left: readonly LeftDisk[]): void {
    this.commit = undefined;
    this.left = left;
    if (!this.frozen) this.last = this.last.then(() => this.bringUpToDate());
  }

  /** Resolves when nothing is under way. */
  async settled(): Promise<void> {
    await this.last;
  }
}
