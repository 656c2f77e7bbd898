/**
 * What a virtual machine of a lab is made of, and its command line.
 *
 *     image.raw                 the appliance image that the lab was made with: a newer one does not change this lab
 *     APPLIANCE/system.qcow2    the machine's own system disk, on that image
 *     APPLIANCE/seed.img        its board profile and name
 *     APPLIANCE/monitor.sock    QEMU's monitor for the lab
 *     APPLIANCE/console.sock    the serial console; console.log is what was said there
 *     ARRAY/shelf0-0.disk       a shelf's disks, which the machines of a pair share
 */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import packageJson from "../../package.json" with { type: "json" };
import { clientEnvironment, ensureClients } from "../clients.ts";
import { buildImage, defaultOut, type Manifest } from "../image_build/build.ts";
import { emulator, type Forward, kvmWorks, machineArguments, plainMachine } from "../image_build/machine.ts";
import { runProgram } from "../image_build/program.ts";
import { releaseHere } from "../image_build/release.ts";
import { makeSeed, seedPrograms } from "../image_build/seed.ts";
import { makeEmpty } from "../image_build/slot.ts";
import { diskSerial, profileText } from "./profile.ts";
import { diskPath, type Lab, LabError, monitorSocket, partnerOf, pathIn, type SiteAppliance } from "./site.ts";

export const imageFile = "image.raw";
const builtImage = join(defaultOut, `goldcopy-${packageJson.version}.raw`);
const builtManifest = join(defaultOut, `goldcopy-${packageJson.version}.json`);
/** The firmware takes 250 MiB of it beside a cache of 32 MiB. */
const memoryMib = 640;

const say = (text: string): void => console.error(text);

export function refuseWithoutEmulator(): void {
  const missing = ensureClients(say, [emulator, "qemu-img", ...seedPrograms]);
  if (missing.length > 0) throw new LabError(`--vm: ${missing.map(({ text }) => text).join("; ")}`, "no-emulator");
  // The builder's tools lie where a plain user's PATH does not look.
  process.env["PATH"] = clientEnvironment["PATH"];
}

/** The appliance image of this commit is built, if it is not there. */
export async function ensureImage(): Promise<void> {
  const { commit } = releaseHere();
  if (existsSync(builtImage) && existsSync(builtManifest) && !commit.endsWith("-changed")) {
    const manifest = JSON.parse(readFileSync(builtManifest, "utf8")) as Manifest;
    if (manifest.commit === commit) return;
  }
  say("the appliance image of this commit is not there: it is built (a minute) ...");
  await buildImage({ out: defaultOut, formats: ["raw"], say });
}

/** Whatever of its files is not there yet; then the words of the command line, without what concerns monitor and console. */
export function machineWords(lab: Lab, appliance: SiteAppliance): string[] {
  const { name, array } = appliance;
  const isShared = partnerOf(lab, appliance) !== null;
  refuseTakenPorts(appliance);
  const disks = Array.from({ length: lab.site.disksPerShelf }, (_, slot) => ({
    file: diskPath(lab, array, slot),
    serial: diskSerial(slot),
    shared: isShared,
  }));
  // A single appliance's are made with its machine; a pair's are made with the lab, before either starts.
  const isNew = !existsSync(systemPath(lab, name));
  if (isNew && !isShared) for (const { file } of disks) if (!existsSync(file)) makeEmpty(file, lab.site.diskBytes);
  const missing = disks.find(({ file }) => !existsSync(file));
  if (missing !== undefined)
    throw new LabError(
      `${missing.file} is not there, a disk of ${array}'s shelf: ${name} is not started without it; put it back, or scripts/lab down --wipe starts over`,
      "no-shelf",
    );
  if (isNew) makeSystemDisk(lab, name);
  return machineArguments({
    ...plainMachine,
    image: systemPath(lab, name),
    seed: seed(lab, appliance),
    disks,
    forwards: forwardedPorts(appliance),
    acceleration: kvmWorks() ? "kvm" : "tcg",
    memoryMib,
  });
}

/** Monitors and console. */
export function socketWords(lab: Lab, { name, monitorPort }: SiteAppliance): string[] {
  const socket = (file: string) => pathIn(lab, name, file).replaceAll(",", ",,");
  const log = consoleLog(lab, name).replaceAll(",", ",,");
  return [
    ...["-qmp", `unix:${socket(monitorSocket)},server=on,wait=off`],
    ...(monitorPort === undefined ? [] : ["-qmp", `tcp:127.0.0.1:${monitorPort},server=on,wait=off`]),
    ...["-chardev", `socket,id=console,path=${socket("console.sock")},server=on,wait=off,logfile=${log},logappend=on`],
    ...["-serial", "chardev:console"],
  ];
}

export function consoleLog(lab: Lab, name: string): string {
  return pathIn(lab, name, "console.log");
}

/** Each to the same port of the guest. The partners' heartbeats are UDP, at their interconnect ports. */
function forwardedPorts(appliance: SiteAppliance): Forward[] {
  const { nbdPorts, iscsiPorts, nicPorts, interconnectPorts, managementPort } = appliance;
  const management = managementPort === undefined ? [] : [managementPort];
  const forwards = (ports: readonly number[], protocol: "tcp" | "udp") =>
    ports.map((port) => ({ host: port, guest: port, protocol }));
  return [
    ...forwards([...nbdPorts, ...iscsiPorts, ...nicPorts, ...interconnectPorts, ...management], "tcp"),
    ...forwards(interconnectPorts, "udp"),
  ];
}

/** QEMU says of a port that it cannot have, but not why. (Connections that have ended there are not in its way.) */
function refuseTakenPorts(appliance: SiteAppliance): void {
  const { name, monitorPort } = appliance;
  const wanted = forwardedPorts(appliance).map(({ host, protocol = "tcp" }) => ({ port: host, protocol }));
  if (monitorPort !== undefined) wanted.push({ port: monitorPort, protocol: "tcp" });
  const used = { tcp: listeningPorts("tcp"), udp: listeningPorts("udp") };
  const taken = wanted.find(({ port, protocol }) => used[protocol].has(port));
  if (taken === undefined) return;
  const { port, protocol } = taken;
  throw new LabError(
    `${protocol === "udp" ? "UDP port" : "port"} ${port} of ${name} is taken: end what listens there (ss -lntup), or scripts/lab down --wipe and up choose others`,
    "port-taken",
  );
}

/** The state in which they take something from anyone. */
const listeningStates = { tcp: "0A", udp: "07" } as const;

/** As proc(5) has them: `sl local_address rem_address st`, hexadecimal. */
function listeningPorts(protocol: "tcp" | "udp"): Set<number> {
  const ports = new Set<number>();
  for (const file of [`/proc/net/${protocol}`, `/proc/net/${protocol}6`]) {
    if (!existsSync(file)) continue;
    for (const line of readFileSync(file, "utf8").split("\n")) {
      const match = /^\s*\d+: [0-9A-F]+:([0-9A-F]{4}) \S+ ([0-9A-F]{2}) /.exec(line);
      const [, port, state] = match ?? [];
      if (port !== undefined && state === listeningStates[protocol]) ports.add(Number.parseInt(port, 16));
    }
  }
  return ports;
}

const systemPath = (lab: Lab, name: string): string => pathIn(lab, name, "system.qcow2");

function makeSystemDisk(lab: Lab, name: string): void {
  const base = join(lab.dir, imageFile);
  if (!existsSync(base)) {
    if (!existsSync(builtImage))
      throw new LabError(`${builtImage} is not there: scripts/image build --format raw`, "no-image");
    runProgram("cp", ["--sparse=always", builtImage, `${base}.new`], 0);
    runProgram("mv", [`${base}.new`, base], 0);
  }
  runProgram("qemu-img", ["create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", systemPath(lab, name)], 0);
}

/** Written at each start of QEMU: the profile is the lab's, as it is for a process. */
function seed(lab: Lab, appliance: SiteAppliance): string {
  const folder = pathIn(lab, appliance.name, "seed");
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "goldcopy.toml"), profileText(lab, appliance), { mode: 0o600 });
  writeFileSync(join(folder, "meta-data"), `instance-id: ${appliance.name}\nlocal-hostname: ${appliance.name}\n`);
  const path = pathIn(lab, appliance.name, "seed.img");
  rmSync(path, { force: true });
  makeSeed(folder, path);
  return path;
}
