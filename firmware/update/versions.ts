/** Whether a bundle fits this appliance: the machine, the versions, the counter, and the space. */
import type { ImageSlots } from "../../hal/api/appliance_image.ts";
import { type BundleManifest, partOf } from "./bundle_format.ts";
import { updateLimits } from "./limits.ts";
import type { UpdateNotes } from "./notes.ts";
import { refused, type UpdateRefusal } from "./refusal.ts";

/** Below, equal or above 0, as for sorting. Both are `MAJOR.MINOR.PATCH`. */
export function compareVersions(left: string, right: string): number {
  const [one, two] = [left, right].map((version) => version.split(".").map(Number)) as [number[], number[]];
  const at = one.findIndex((number, index) => number !== two[index]);
  return at < 0 ? 0 : (one[at] ?? 0) - (two[at] ?? 0);
}

export function judgeManifest(
  manifest: BundleManifest,
  { release, rootSizeBytes }: ImageSlots,
  notes: UpdateNotes,
): UpdateRefusal | null {
  const { version, machine, minimum, counter } = manifest;
  if (machine !== release.machine)
    return refused(
      "wrong-machine",
      `the bundle is for ${machine}, and this is ${release.machine}: get the one for this machine`,
    );
  if (compareVersions(release.version, minimum) < 0)
    return refused(
      "minimum-version",
      `${version} needs at least ${minimum} before it, and this is ${release.version}: install ${minimum} first`,
    );
  const oldest = Math.max(notes.counter, release.counter);
  if (counter < oldest)
    return refused(
      "older",
      `${version} is older (counter ${counter}) than what has worked here (${oldest}), and going back needs no bundle: ` +
        "goldcopy update rollback starts what ran before",
    );
  return spaceTrouble(manifest, rootSizeBytes);
}

function spaceTrouble(manifest: BundleManifest, rootSizeBytes: number): UpdateRefusal | null {
  const root = partOf(manifest, "root").bytes;
  const remedy = "write the image of that version to the disk instead, and give it this appliance's seed";
  if (root > rootSizeBytes)
    return refused(
      "no-space",
      `the root of ${manifest.version} has ${root} bytes, and a slot has ${rootSizeBytes}: ${remedy}`,
    );
  const boot = partOf(manifest, "vmlinuz").bytes + partOf(manifest, "initrd").bytes;
  if (boot > updateLimits.bootBytesMax)
    return refused(
      "no-space",
      `kernel and initrd of ${manifest.version} have ${boot} bytes, and a slot has ${updateLimits.bootBytesMax} for them: ${remedy}`,
    );
  return null;
}
