/** A search as it goes, for people: a tree that is drawn again in place on a terminal, lines where there is none. */

import { drawable, formatProgress, renderTree } from '@braid/core/branch/tree-text.ts';
import type { ExploreNode, ExploreProgress } from '../branch/explore.ts';
import type { Move, MoveResult } from '../branch/moves.ts';
import { safeStyledText, safeText } from './say.ts';

/** What is written to. */
export interface LiveStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
  write(text: string): unknown;
}

/** Between two pictures: no faster than one can look. */
const REDRAW_MS = 80;
const LINE_MS = 1000;
/** Lines of a tree on a high terminal. */
const MOST_LINES = 40;

export class LiveTree<M = Move, R = MoveResult> implements Disposable {
  private readonly stream: LiveStream;
  private readonly now: () => number;
  private timer: NodeJS.Timeout | undefined;
  private latest: ExploreProgress<M, R> | undefined;
  private drawnAt = Number.NEGATIVE_INFINITY;
  /** Lines of the picture that is there. */
  private lines = 0;
  private best: ExploreNode<M> | undefined;

  /** `now`: the host's time in ms. */
  constructor(stream: LiveStream, now: () => number = () => performance.now()) {
    this.stream = stream;
    this.now = now;
  }

  /** To be called with all progress there is. */
  readonly update = (progress: ExploreProgress<M, R>): void => {
    this.latest = progress;
    if (this.timer) return;
    const left = this.drawnAt + (this.stream.isTTY ? REDRAW_MS : LINE_MS) - this.now();
    if (left <= 0) this.show();
    else this.timer = setTimeout(() => this.show(), left);
  };

  private show(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.drawnAt = this.now();
    const { latest, stream } = this;
    if (!latest) return;
    if (stream.isTTY) this.draw(latest);
    else if (latest.best !== this.best) stream.write(`${safeText(formatProgress(latest))}\n`);
    this.best = latest.best;
  }

  private draw(progress: ExploreProgress<M, R>): void {
    const columns = this.stream.columns || 80;
    const rows = this.stream.rows || 24;
    // The last column is left free: a line that fills it may wrap.
    const width = Math.max(20, columns - 1);
    const limit = Math.max(1, Math.min(MOST_LINES, rows - 3));
    const tree = renderTree(drawable(progress), { width, limit, color: true });
    const lines = [...tree, formatProgress(progress).slice(0, width)];
    this.stream.write(`${this.back()}${lines.map((line) => `${safeStyledText(line)}\x1b[K\n`).join('')}`);
    this.lines = lines.length;
  }

  /** To where the picture begins; what is there is taken away. */
  private back(): string {
    return this.lines > 0 ? `\x1b[${this.lines}A\r\x1b[J` : '';
  }

  /** Takes the picture away: the tree that is done is drawn by whoever has it. */
  [Symbol.dispose](): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.latest = undefined;
    if (this.lines > 0) this.stream.write(this.back());
    this.lines = 0;
  }
}
