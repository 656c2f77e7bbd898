/**
 * A Linux host in QEMU: boots the image of `scripts/guest_image/`, and hands it orders. No rights are needed and no KVM: the processor is
 * emulated. The guest's network is QEMU's own; what listens on this machine's loopback is at 10.0.2.2 there.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { type Found, type Order, portName, type Ran, type Told } from "../../../scripts/guest_image/agent/words.ts";
import { type GuestImage, guestImage } from "../../../scripts/guest_image/image.ts";
import { waitUntil } from "../../../scripts/lab_site/wait.ts";

/** What the loopback of this machine is called in the guest. */
export const outside = "10.0.2.2";
const emulator = "qemu-system-x86_64";
export const guestPrograms = [emulator, "cpio", "dpkg-deb", "apt-get"];

/** 10 s on an idle machine; the tests beside it take their share. */
const bootLimitMs = 180_000;
const orderLimitMs = 120_000;
/** Bun is 100 MB of the initramfs, which is there twice while it is unpacked. */
const usualShape = { memoryMib: 768, cpus: 1, ports: [] } as const;
const forward = (port: number): string => `hostfwd=tcp:127.0.0.1:${port}-:${port}`;

/** What a guest has that is not as usual. */
export interface GuestShape {
  readonly image: GuestImage;
  readonly memoryMib: number;
  readonly cpus: number;
  /** Ports of this machine's loopback that lead to the same numbers in the guest. */
  readonly ports: readonly number[];
}

interface Waiting {
  resolve(answer: unknown): void;
  reject(error: Error): void;
}

export class Guest {
  readonly #qemu: ChildProcess;
  readonly #server: Server;
  readonly #consolePath: string;
  readonly #waiting = new Map<number, Waiting>();
  #socket: Socket | null = null;
  #release: string | null = null;
  #ended: string | null = null;
  #nextId = 1;
  #rest = "";
  /** For each file the number of the last record whose fsync has returned in the guest. */
  readonly synced: number[] = [];
  /** The longest time between two syncs of any writers, since it was last set. */
  longestPauseMs = 0;
  #lastSyncMs: number | null = null;
  /** Errors that writers have met. */
  readonly broken: string[] = [];

  private constructor(dir: string, { image, memoryMib, cpus, ports }: GuestShape) {
    this.#consolePath = join(dir, "console.log");
    const socketPath = join(dir, "agent.sock");
    this.#server = createServer((socket) => this.#serve(socket)).listen(socketPath);
    const args = [
      ...["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", String(cpus), "-m", `${memoryMib}M`],
      ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
      ...[
        "-kernel",
        image.kernel,
        "-initrd",
        image.initramfs,
        "-append",
        "console=ttyS0 loglevel=6 panic=-1 net.ifnames=0",
      ],
      ...["-serial", `file:${this.#consolePath}`],
      ...["-netdev", ["user,id=net0", ...ports.map(forward)].join(",")],
      ...["-device", "virtio-net-pci,netdev=net0,romfile="],
      ...["-device", "virtio-serial-pci", "-chardev", `socket,id=agent,path=${socketPath}`],
      ...["-device", `virtserialport,chardev=agent,name=${portName}`],
    ];
    this.#qemu = spawn(emulator, args, { stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    this.#qemu.stderr?.on("data", (chunk: Buffer) => {
      said += chunk.toString();
    });
    this.#qemu.on("error", (error) => this.#end(error.message));
    this.#qemu.on("close", (code) => this.#end(`QEMU has ended (${code}) ${said.trim()}`));
  }

  /** Done when the agent answers; `dir` is for its sockets and its console. */
  static async boot(dir: string, shape: Partial<GuestShape> = {}): Promise<Guest> {
    const guest = new Guest(dir, { image: shape.image ?? guestImage(), ...usualShape, ...shape });
    const ready = await waitUntil(bootLimitMs, 20, () => guest.#release ?? guest.#ended);
    if (ready !== null && guest.#ended === null) return guest;
    const why = guest.#ended ?? `nothing is heard from its agent after ${bootLimitMs} ms`;
    const console = guest.console();
    guest.close();
    throw new Error(`the guest does not start: ${why}\n${console}`);
  }

  get release(): string {
    return this.#release ?? "";
  }

  /** The last lines of the kernel's and the first process's console. */
  console(): string {
    try {
      return readFileSync(this.#consolePath, "utf8").split("\n").slice(-80).join("\n");
    } catch {
      return "(no console)";
    }
  }

  async run(...argv: string[]): Promise<Ran> {
    return (await this.order({ do: "run", argv })) as Ran;
  }

  /** What the program printed; throws unless it succeeded. */
  async runOk(...argv: string[]): Promise<string> {
    const { code, out, err } = await this.run(...argv);
    if (code !== 0)
      throw new Error(`in the guest, ${argv.join(" ")}: exit ${code}\n${out.slice(-2000)}\n${err.slice(-2000)}`);
    return out;
  }

  async startWriting(folder: string, files: number): Promise<void> {
    this.synced.length = 0;
    for (let file = 0; file < files; file++) this.synced.push(0);
    this.#lastSyncMs = null;
    await this.order({ do: "write", folder, files });
  }

  async stopWriting(): Promise<void> {
    await this.order({ do: "stop" });
  }

  async find(folder: string, files: number): Promise<Found[]> {
    return (await this.order({ do: "find", folder, files })) as Found[];
  }

  async order(order: Order, limitMs = orderLimitMs): Promise<unknown> {
    const id = this.#nextId++;
    const answer = new Promise<unknown>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      if (this.#ended !== null) reject(new Error(this.#ended));
    });
    const limit = setTimeout(() => {
      const error = new Error(`the guest has not done ${JSON.stringify(order)} in ${limitMs} ms\n${this.console()}`);
      this.#waiting.get(id)?.reject(error);
    }, limitMs);
    this.#socket?.write(`${JSON.stringify({ ...order, id })}\n`);
    try {
      return await answer;
    } finally {
      clearTimeout(limit);
      this.#waiting.delete(id);
    }
  }

  /** As if its power was cut. */
  close(): void {
    this.#qemu.kill("SIGKILL");
    this.#socket?.destroy();
    this.#server.close();
  }

  #serve(socket: Socket): void {
    this.#socket = socket;
    socket.on("data", (chunk: Buffer) => {
      const lines = (this.#rest + chunk.toString()).split("\n");
      this.#rest = lines.pop() ?? "";
      for (const line of lines) this.#hear(JSON.parse(line) as Told);
    });
    socket.on("error", () => {});
  }

  #hear(told: Told): void {
    if ("synced" in told) this.#noteSync(...told.synced);
    else if ("broken" in told) this.broken.push(told.broken);
    else if ("ready" in told) this.#release = told.ready;
    else if ("answer" in told) this.#waiting.get(told.id)?.resolve(told.answer);
    else this.#waiting.get(told.id)?.reject(new Error(`in the guest: ${told.failed}`));
  }

  #noteSync(file: number, number: number): void {
    this.synced[file] = number;
    const nowMs = performance.now();
    if (this.#lastSyncMs !== null) this.longestPauseMs = Math.max(this.longestPauseMs, nowMs - this.#lastSyncMs);
    this.#lastSyncMs = nowMs;
  }

  #end(why: string): void {
    this.#ended ??= why;
    for (const { reject } of this.#waiting.values()) reject(new Error(this.#ended));
  }
}
