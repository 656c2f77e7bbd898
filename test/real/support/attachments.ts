/**
 * How a LUN becomes a file that `mount -o loop` takes, on a kernel without block drivers for NBD and iSCSI: by FUSE, with third-party
 * initiators. What sets them apart is what they do when the appliance dies.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { statSync, writeFileSync } from "node:fs";
import { waitUntil } from "../../../scripts/lab_site/wait.ts";
import type { TestAppliance } from "./appliance.ts";
import { run, runOk } from "./clients.ts";
import { unmount } from "./mounts.ts";

const initiatorName = "iqn.2026-11.test:host";
const attachLimitMs = 20_000;
const detachLimitMs = 20_000;

export interface Attachment {
  readonly name: string;
  readonly programs: readonly string[];
  readonly isIscsi: boolean;
  /** `file` becomes the LUN. */
  attach(appliance: TestAppliance, volume: string, file: string): Promise<AttachedLun>;
}

/** The LUN as a file, and the process behind it. */
export class AttachedLun {
  readonly file: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;

  private constructor(file: string, child: ChildProcess, ended: Promise<void>) {
    this.file = file;
    this.#child = child;
    this.#ended = ended;
  }

  static async by(program: string, args: readonly string[], file: string): Promise<AttachedLun> {
    writeFileSync(file, "");
    const child = spawn(program, [...args], { stdio: ["ignore", "ignore", "pipe"] });
    let err = "";
    let isGone = false;
    child.stderr.on("data", (chunk: Buffer) => {
      err += chunk.toString();
    });
    const ended = new Promise<void>((resolve) => {
      child.on("error", () => resolve());
      child.on("close", () => resolve());
    }).then(() => {
      isGone = true;
    });
    const attached = new AttachedLun(file, child, ended);
    const isThere = await waitUntil(attachLimitMs, 20, () => (isGone || statSync(file).size > 0 ? true : null));
    if (isThere !== null && !isGone) return attached;
    await attached.lose();
    throw new Error(`${program} does not attach the LUN: ${err.trim()}`);
  }

  /** Orderly: nothing uses the file any more. */
  async detach(): Promise<void> {
    await unmount(this.file);
    // QEMU's daemon goes on without its export.
    this.#child.kill("SIGTERM");
    const limit = setTimeout(() => this.#child.kill("SIGKILL"), detachLimitMs);
    await this.#ended;
    clearTimeout(limit);
  }

  /** As when a host dies. Whatever is mounted on the file gets errors from now on. */
  async lose(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#ended;
    // The mount point of a dead FUSE server can only be let go of.
    await run("umount", ["--lazy", this.file]);
  }
}

/** libnbd: its disk fails for good when the connection ends. */
export const nbdfuse: Attachment = {
  name: "NBD by nbdfuse",
  programs: ["nbdfuse"],
  isIscsi: false,
  attach: (appliance, volume, file) => AttachedLun.by("nbdfuse", [file, `nbd://${appliance.hba()}/${volume}`], file),
};

/** QEMU's NBD driver: connects again and repeats what was under way, for as long as an appliance may need to come back. */
export const qemuNbd: Attachment = {
  name: "NBD by qemu-storage-daemon",
  programs: ["qemu-storage-daemon"],
  isIscsi: false,
  attach(appliance, volume, file) {
    const [host, port] = appliance.hba().split(":");
    const node = `driver=nbd,node-name=lun,server.type=inet,server.host=${host},server.port=${port},export=${volume},reconnect-delay=60`;
    return AttachedLun.by("qemu-storage-daemon", qemuArgs(node, file), file);
  },
};

/** libiscsi in QEMU: connects again by itself and repeats what was under way. */
export const qemuIscsi: Attachment = {
  name: "iSCSI by qemu-storage-daemon",
  programs: ["qemu-storage-daemon", "iscsi-ls"],
  isIscsi: true,
  async attach(appliance, _volume, file) {
    const portal = appliance.iscsiPortal();
    const { target, lun } = await onlyLun(portal);
    const node = `driver=iscsi,node-name=lun,transport=tcp,portal=${portal},target=${target},lun=${lun},initiator-name=${initiatorName}`;
    return AttachedLun.by("qemu-storage-daemon", qemuArgs(node, file), file);
  },
};

/** What discovery shows this host: one volume is mapped. */
async function onlyLun(portal: string): Promise<{ target: string; lun: number }> {
  const { stdout } = await runOk("iscsi-ls", ["-s", "-i", initiatorName, `iscsi://${portal}`]);
  const target = /^Target:(\S+)/m.exec(stdout)?.[1];
  const luns = [...stdout.matchAll(/^Lun:(\d+)\s+Type:DIRECT_ACCESS/gm)].map((found) => Number(found[1]));
  if (target === undefined || luns.length !== 1) throw new Error(`one target with one LUN expected: ${stdout}`);
  return { target, lun: luns[0]! };
}

function qemuArgs(node: string, file: string): string[] {
  return ["--blockdev", node, "--export", `type=fuse,id=file,node-name=lun,mountpoint=${file},writable=on`];
}
