/**
 * Hosts and what they may use. Access is closed until a host is added and mapped; `any` opens it deliberately.
 *
 * Which entry an identity is:
 * - NBD: every entry that one of its proofs fits (TLS name, address, any), their mappings together. An entry with IQNs only is none of
 *   them; one that asks for CHAP is met by its TLS name alone, for NBD has no other proof as good.
 * - iSCSI: exactly one entry, for LUNs are an entry's and so is the secret: the one with its IQN, else the first whose networks hold its
 *   address, else the first `any`. An entry with IQNs and networks wants both. An entry with TLS names only is none.
 *
 * Invariants:
 * - No IQN stands in two entries.
 * - A CHAP secret leaves this room only through `required`.
 */
import type { BlockTarget, ExportInfo } from "../volume/block_request.ts";
import type { ChapCredentials, HostAuthority, HostIdentity } from "../volume/host_access.ts";
import type { ArrayDocument, HostEntry } from "./array_document.ts";
import { cidrContains, parseCidr } from "./cidr.ts";
import { done, type HostControl, type Removed, type Result, refused } from "./control.ts";
import type { HostJson } from "./status_json.ts";

const lunsMax = 256;

export interface HostRegistryOptions {
  document(): ArrayDocument;
  /** Makes a changed list of hosts durable. */
  save(hosts: HostEntry[]): Promise<Result<null>>;
  volumeExists(name: string): boolean;
  /** Ends every session: access may have been taken away. */
  accessChanged(volumes: readonly string[]): void;
  /** What the target proves of itself over iSCSI; none unless given. */
  readonly own?: ChapCredentials | null;
}

/** How a host may use a volume. */
export interface Access {
  readonly readOnly: boolean;
}

export class HostRegistry implements HostControl, HostAuthority {
  readonly #options: HostRegistryOptions;
  readonly #listeners: (() => void)[] = [];
  /** What an identity was asked to prove when it logged in: it sees nothing of an entry that has come to ask for something else. */
  readonly #asked = new WeakMap<HostIdentity, string>();

  constructor(options: HostRegistryOptions) {
    this.#options = options;
  }

  list(): HostJson[] {
    return this.#options.document().hosts.map(toJson);
  }

  get own(): ChapCredentials | null {
    return this.#options.own ?? null;
  }

  /** For iSCSI: what `identity` must prove at its login. */
  required(identity: HostIdentity): "unknown" | "open" | ChapCredentials {
    const host = this.#initiator(identity);
    if (host === null) return "unknown";
    this.#asked.set(identity, proofOf(host));
    if (host.chap === null) return "open";
    return { user: host.chap.user, secret: new TextEncoder().encode(host.chap.secret) };
  }

  /** What `identity` was asked to prove, and has proved when it has logged in: for `proved` at the partner. */
  proofOf(identity: HostIdentity): string {
    return this.#asked.get(identity) ?? "";
  }

  /** `identity` has logged in at the partner with this proof. It sees something only while that is what is asked for. */
  proved(identity: HostIdentity, proof: string): void {
    this.#asked.set(identity, proof);
  }

  /** For iSCSI: what `identity`, which has logged in, sees; ascending by LUN. */
  lunMappings(identity: HostIdentity): HostEntry["mappings"] {
    const host = this.#initiator(identity);
    if (host === null || this.#asked.get(identity) !== proofOf(host)) return [];
    return host.mappings;
  }

  /** Called after a change of hosts and mappings, and by `changed`. */
  onChanged(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** What hosts may see has changed. */
  changed(): void {
    for (const listener of this.#listeners) listener();
  }

  #initiator(identity: HostIdentity): HostEntry | null {
    const iqn = identity.iqn?.toLowerCase() ?? "";
    const { hosts } = this.#options.document();
    const byName = hosts.find((host) => host.iqns.some((one) => one.toLowerCase() === iqn));
    // Another entry must not give what its own one refuses for the address.
    if (byName !== undefined) return byName.addresses.length === 0 || isFrom(byName, identity) ? byName : null;
    const others = hosts.filter((host) => host.iqns.length === 0);
    return others.find((host) => isFrom(host, identity)) ?? hosts.find((host) => host.any) ?? null;
  }

  /** The access that a host has to `volume`, or null. Writable wins over read-only. */
  accessOf(identity: HostIdentity, volume: string): Access | null {
    let access: Access | null = null;
    for (const host of this.#options.document().hosts) {
      if (!matches(host, identity)) continue;
      const mapping = host.mappings.find((one) => one.volume === volume);
      if (mapping === undefined) continue;
      if (!mapping.readOnly) return { readOnly: false };
      access = { readOnly: true };
    }
    return access;
  }

  mappingsOf(volume: string): { host: string; lun: number; readOnly: boolean }[] {
    return this.#options
      .document()
      .hosts.flatMap((host) =>
        host.mappings
          .filter((mapping) => mapping.volume === volume)
          .map((mapping) => ({ host: host.name, lun: mapping.lun, readOnly: mapping.readOnly })),
      );
  }

  async add(host: {
    name: string;
    any: boolean;
    addresses: readonly string[];
    iqns: readonly string[];
    tlsNames: readonly string[];
    chap?: { readonly user: string; readonly secret: string } | null;
  }): Promise<Result<HostJson>> {
    const { hosts } = this.#options.document();
    if (hosts.some((one) => one.name === host.name)) {
      return refused("exists", `host ${host.name} exists; remove it first, or choose another name`);
    }
    if (hosts.length >= 256) return refused("invalid", "there are 256 hosts already, the most that an array keeps");
    const { addresses, tlsNames } = host;
    const iqns = host.iqns.map((iqn) => iqn.toLowerCase());
    const known = hosts.find((one) => one.iqns.some((iqn) => iqns.includes(iqn.toLowerCase())));
    if (known !== undefined) return refused("exists", `host ${known.name} has one of these IQNs; remove it first`);
    const entry: HostEntry = {
      ...host,
      addresses: [...addresses],
      iqns: [...iqns],
      tlsNames: [...tlsNames],
      chap: host.chap ?? null,
      mappings: [],
    };
    return this.#saved([...hosts, entry], entry);
  }

  async remove(name: string): Promise<Result<Removed>> {
    const { hosts } = this.#options.document();
    const entry = hosts.find((one) => one.name === name);
    if (entry === undefined) return notFound(name);
    const saved = await this.#options.save(hosts.filter((one) => one !== entry));
    if (!saved.ok) return saved;
    this.#options.accessChanged(entry.mappings.map((mapping) => mapping.volume));
    this.changed();
    return done({ removed: name });
  }

  async map(
    name: string,
    mapping: { volume: string; lun: number | null; readOnly: boolean },
  ): Promise<Result<HostJson>> {
    const { hosts } = this.#options.document();
    const entry = hosts.find((one) => one.name === name);
    if (entry === undefined) return notFound(name);
    if (!this.#options.volumeExists(mapping.volume)) {
      return refused("not-found", `there is no volume ${mapping.volume}; see: goldcopy volume list`);
    }
    const present = entry.mappings.find((one) => one.volume === mapping.volume);
    const taken = new Set(entry.mappings.filter((one) => one !== present).map((one) => one.lun));
    const lun = mapping.lun ?? present?.lun ?? lowestFree(taken);
    if (taken.has(lun)) return refused("exists", `LUN ${lun} of host ${name} is another volume; choose another --lun`);
    const mappings = [
      ...entry.mappings.filter((one) => one !== present),
      { volume: mapping.volume, lun, readOnly: mapping.readOnly },
    ];
    const next = { ...entry, mappings: mappings.sort((a, b) => a.lun - b.lun) };
    const result = await this.#saved(
      hosts.map((one) => (one === entry ? next : one)),
      next,
    );
    if (result.ok && present !== undefined) this.#options.accessChanged([mapping.volume]);
    return result;
  }

  async unmap(name: string, volume: string): Promise<Result<HostJson>> {
    const { hosts } = this.#options.document();
    const entry = hosts.find((one) => one.name === name);
    if (entry === undefined) return notFound(name);
    const next = { ...entry, mappings: entry.mappings.filter((one) => one.volume !== volume) };
    const result = await this.#saved(
      hosts.map((one) => (one === entry ? next : one)),
      next,
    );
    if (result.ok) this.#options.accessChanged([volume]);
    return result;
  }

  /** A volume is gone: so are its mappings. */
  async forget(volume: string): Promise<Result<null>> {
    const { hosts } = this.#options.document();
    if (!hosts.some((host) => host.mappings.some((mapping) => mapping.volume === volume))) return done(null);
    const saved = await this.#options.save(
      hosts.map((host) => ({ ...host, mappings: host.mappings.filter((mapping) => mapping.volume !== volume) })),
    );
    this.changed();
    return saved;
  }

  async #saved(hosts: HostEntry[], entry: HostEntry): Promise<Result<HostJson>> {
    const saved = await this.#options.save(hosts);
    // Also what has not been saved may have been seen meanwhile.
    this.changed();
    return saved.ok ? done(toJson(entry)) : saved;
  }
}

/** What the export table needs to know of a volume to show it. */
export interface Exportable {
  readonly info: ExportInfo;
  open(access: Access): BlockTarget | "not-ready";
}

function toJson({ chap, ...host }: HostEntry): HostJson {
  return { ...host, chapUser: chap?.user ?? null, mappings: [...host.mappings] };
}

/** Differs between entries and between secrets. */
function proofOf({ name, chap }: HostEntry): string {
  return JSON.stringify([name, chap?.user ?? null, chap?.secret ?? null]);
}

/** For NBD. One proof is enough; each is what its transport has proved, never what a host merely says. */
function matches(host: HostEntry, identity: HostIdentity): boolean {
  if (identity.tlsName !== null && host.tlsNames.includes(identity.tlsName)) return true;
  if (host.chap !== null) return false;
  return host.any || isFrom(host, identity);
}

function isFrom(host: HostEntry, identity: HostIdentity): boolean {
  const address = addressOf(identity.remote);
  return host.addresses.some((text) => {
    const cidr = parseCidr(text);
    return cidr !== null && cidrContains(cidr, address);
  });
}

/** The address of a session's `remote`, which may end in a port: `192.0.2.1:4711`, `[2001:db8::1]:4711`. */
function addressOf(remote: string): string {
  if (remote.startsWith("[")) return remote.slice(1, remote.indexOf("]"));
  const colon = remote.lastIndexOf(":");
  return colon > 0 && remote.indexOf(":") === colon ? remote.slice(0, colon) : remote;
}

function lowestFree(taken: ReadonlySet<number>): number {
  let lun = 0;
  while (taken.has(lun) && lun < lunsMax) lun++;
  return lun;
}

function notFound(name: string): { readonly ok: false; readonly error: { code: "not-found"; text: string } } {
  return { ok: false, error: { code: "not-found", text: `there is no host ${name}; see: goldcopy host list` } };
}
