/** The volumes that host sessions have open, so that a change of role, a deletion or a stop ends them. */
import type { VolumeTarget } from "./volume_target.ts";

export class OpenTargets {
  readonly #targets = new Set<VolumeTarget>();

  add(target: VolumeTarget): void {
    this.#targets.add(target);
  }

  remove(target: VolumeTarget): void {
    this.#targets.delete(target);
  }

  /** `volume` null: all of them. `isLost`: see `BlockTarget.onEnded`. */
  end(volume: number | null, reason: string, isLost = false): void {
    for (const target of [...this.#targets]) {
      if (volume === null || target.volumeNumber === volume) target.end(reason, isLost);
    }
  }
}
