/** One disk of the guest's as multipath sees it: groups of paths, their priorities, and where each path leads. */
import { waitUntil } from "../../../scripts/lab_site/wait.ts";
import type { Guest } from "./guest.ts";

/** What is used of `multipathd show maps json`. */
interface Maps {
  readonly maps: readonly {
    readonly name: string;
    readonly path_groups: readonly {
      readonly pri: number;
      readonly dm_st: string;
      readonly paths: readonly { readonly dev: string; readonly dm_st: string; readonly chk_st: string }[];
    }[];
  }[];
}
type Groups = Maps["maps"][number]["path_groups"];

const pollMs = 200;

export class Multipath {
  readonly #guest: Guest;
  readonly #name: string;
  /** Kernel names of the disks -> the TCP port of the portal that each goes through. They stay while the sessions do. */
  readonly #ports: ReadonlyMap<string, string>;

  private constructor(guest: Guest, name: string, ports: ReadonlyMap<string, string>) {
    this.#guest = guest;
    this.#name = name;
    this.#ports = ports;
  }

  /** Waits until the LUN is a multipath disk with so many paths. */
  static async whenThere(guest: Guest, wish: { lun: number; paths: number; limitMs: number }): Promise<Multipath> {
    const { lun, paths, limitMs } = wish;
    const found = await waitUntil(limitMs, pollMs, async () => {
      const ports = await portsOf(guest, lun);
      if (ports.size < paths) return null;
      const map = (await mapsOf(guest)).find(({ path_groups }) => {
        const devices = path_groups.flatMap((group) => group.paths.map(({ dev }) => dev));
        return devices.length === paths && devices.every((device) => ports.has(device));
      });
      return map === undefined ? null : new Multipath(guest, map.name, ports);
    });
    if (found !== null) return found;
    throw new Error(
      `LUN ${lun} is no multipath disk with ${paths} paths after ${limitMs} ms:\n${await showAll(guest)}`,
    );
  }

  get device(): string {
    return `/dev/mapper/${this.#name}`;
  }

  /**
   * Waits until the priorities of the groups that have a working path are the expected ones, best first, and the best group's working paths, in
   * use, are those through the given TCP ports.
   */
  async whenPreferred(ports: readonly string[], priorities: readonly number[], limitMs: number): Promise<void> {
    const wanted = JSON.stringify(priorities);
    const found = await waitUntil(limitMs, pollMs, async () => {
      const groups = workingGroups(
        (await mapsOf(this.#guest)).find(({ name }) => name === this.#name)?.path_groups ?? [],
      );
      const [best] = groups;
      if (JSON.stringify(groups.map(({ pri }) => pri)) !== wanted || best?.dm_st !== "active") return null;
      return best.paths.every(({ dev }) => ports.includes(this.#ports.get(dev) ?? "")) || null;
    });
    if (found !== null) return;
    const shown = await showAll(this.#guest);
    throw new Error(`multipath does not prefer ${ports} with ${wanted} after ${limitMs} ms:\n${shown}`);
  }

  async show(): Promise<string> {
    return await this.#guest.runOk("multipath", "-ll", this.#name);
  }
}

function workingGroups(groups: Groups): Groups {
  return groups
    .map((group) => ({
      ...group,
      paths: group.paths.filter(({ chk_st, dm_st }) => chk_st === "ready" && dm_st === "active"),
    }))
    .filter(({ paths }) => paths.length > 0)
    .sort((a, b) => b.pri - a.pri);
}

async function mapsOf(guest: Guest): Promise<Maps["maps"]> {
  const { code, out } = await guest.run("multipathd", "show", "maps", "json");
  // It is busy, or has not started.
  return code === 0 && out.startsWith("{") ? (JSON.parse(out) as Maps).maps : [];
}

/** udev names each disk by its way: `ip-ADDRESS:PORT-iscsi-TARGET-lun-N`. */
async function portsOf(guest: Guest, lun: number): Promise<Map<string, string>> {
  const { out } = await guest.run(
    "sh",
    "-c",
    "cd /dev/disk/by-path && for name in *; do echo $name $(readlink $name); done",
  );
  const ports = new Map<string, string>();
  for (const [, port, number, device] of out.matchAll(/^ip-[\d.]+:(\d+)-iscsi-\S+-lun-(\d+) \.\.\/\.\.\/(\S+)$/gm)) {
    if (Number(number) === lun) ports.set(device ?? "", port ?? "");
  }
  return ports;
}

async function showAll(guest: Guest): Promise<string> {
  const { out, err } = await guest.run("multipath", "-ll");
  return out + err;
}
