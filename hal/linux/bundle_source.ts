/** Where update bundles come from on Linux: a file, a web server, or the disk that is labelled for it. */
import { spawnSync } from "node:child_process";
import { open } from "node:fs/promises";
import type { BundleSource } from "../api/appliance_image.ts";
import { causeOf } from "./address.ts";

const pieceBytes = 1024 * 1024;
const diskFinder = "/usr/lib/goldcopy/update_disk";

/** `name`: a path, an http or https URL, or `disk`. */
export function linuxBundleSource(name: string): BundleSource {
  if (/^https?:\/\//.test(name)) return { name, open: () => explained(fromWeb(name)) };
  if (name === "disk") return { name, open: () => explained(fromDisk()) };
  return { name, open: () => explained(fromFile(name)) };
}

/** An errno as a sentence. */
async function* explained(pieces: AsyncGenerator<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* pieces;
  } catch (error) {
    throw new Error(causeOf(error));
  }
}

async function* fromFile(path: string): AsyncGenerator<Uint8Array> {
  const file = await open(path);
  try {
    const buffer = new Uint8Array(pieceBytes);
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, buffer.byteLength, null);
      if (bytesRead === 0) return;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
}

async function* fromWeb(url: string): AsyncGenerator<Uint8Array> {
  const response = await fetch(url).catch((error: unknown) => {
    throw new Error(`no answer (${causeOf(error)})`);
  });
  if (!response.ok || response.body === null) throw new Error(`the server answers ${response.status}`);
  yield* response.body as unknown as AsyncIterable<Uint8Array>;
}

async function* fromDisk(): AsyncGenerator<Uint8Array> {
  const found = spawnSync(diskFinder, [], { encoding: "utf8" });
  if (found.error !== undefined) throw new Error("only an appliance image looks for a disk; name a file");
  if (found.status !== 0) throw new Error(found.stderr.trim());
  yield* fromFile(found.stdout.trim());
}
