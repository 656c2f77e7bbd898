/**
 * The time in which a half's firmware runs here. It can end at any step, and then nothing that was asked of it comes to an end by
 * itself: whoever asks has an answer all the same.
 */
export class Tenure {
  readonly #asking = new Set<() => void>();

  /** What `work` comes to, or `instead` when the firmware has ended before. */
  orOver<T>(work: Promise<T>, instead: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      const over = () => resolve(instead());
      this.#asking.add(over);
      void work.then(resolve, reject).finally(() => this.#asking.delete(over));
    });
  }

  /** The firmware has ended. */
  end(): void {
    const asking = [...this.#asking];
    this.#asking.clear();
    for (const over of asking) over();
  }
}
