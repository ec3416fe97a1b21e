// Morph targets on the processor: few vertices move at a time, and a renderer in software pays for every target otherwise.
import { BufferAttribute, type BufferGeometry, type InterleavedBufferAttribute, type Mesh } from 'three';

interface Target { ids: Uint32Array; positions: Float32Array; normals: Float32Array }

/** The morph targets of one mesh, taken out of it. */
export class Morphs {
  readonly names: string[];
  private readonly base: Float32Array;
  private readonly baseNormals: Float32Array;
  private readonly targets: Target[];
  private readonly geometry: BufferGeometry;
  private weights: number[];
  /** The target that the vertex shader moves, and its weight is told to. */
  private live = -1;
  onWeight: ((weight: number) => void) | null = null;

  constructor(mesh: Mesh) {
    const geometry = (this.geometry = mesh.geometry);
    const dictionary = mesh.morphTargetDictionary ?? {};
    this.names = Object.keys(dictionary).sort((a, b) => dictionary[a]! - dictionary[b]!);
    this.base = plain(geometry.getAttribute('position'));
    this.baseNormals = plain(geometry.getAttribute('normal'));
    const moves = geometry.morphAttributes.position ?? [];
    const turns = geometry.morphAttributes.normal ?? [];
    this.targets = moves.map((move, i) => sparse(plain(move), turns[i] ? plain(turns[i]) : new Float32Array(this.base.length)));
    geometry.morphAttributes = {};
    mesh.morphTargetInfluences = undefined;
    mesh.morphTargetDictionary = undefined;
    geometry.setAttribute('position', new BufferAttribute(this.base.slice(), 3));
    geometry.setAttribute('normal', new BufferAttribute(this.baseNormals.slice(), 3));
    geometry.setAttribute('liveMove', new BufferAttribute(new Float32Array(this.base.length), 3));
    geometry.setAttribute('liveTurn', new BufferAttribute(new Float32Array(this.base.length), 3));
    this.weights = this.names.map(() => 0);
  }

  /** Show weights by name. A slider changes one of them many times: that one is left to the vertex shader. */
  show(weights: Readonly<Record<string, number>>): void {
    const wanted = this.names.map((name, i) => (this.targets[i]!.ids.length ? (weights[name] ?? 0) : 0));
    const changed = wanted.flatMap((w, i) => (w === this.weights[i] ? [] : [i]));
    this.weights = wanted;
    if (!changed.length) return;
    const only = changed.length === 1 ? changed[0]! : -1;
    if (only !== this.live || only < 0) {
      this.live = only;
      this.upload();
    }
    this.onWeight?.(only < 0 ? 0 : wanted[only]!);
  }

  // Everything but the live target, and the live target.
  private upload(): void {
    const [p, n, move, turn] = ['position', 'normal', 'liveMove', 'liveTurn'].map((name) => {
      const attribute = this.geometry.getAttribute(name) as BufferAttribute;
      attribute.needsUpdate = !name.startsWith('live') || this.live >= 0;
      return attribute.array as Float32Array;
    }) as [Float32Array, Float32Array, Float32Array, Float32Array];
    p.set(this.base);
    n.set(this.baseNormals);
    this.weights.forEach((w, i) => w !== 0 && i !== this.live && add(this.targets[i]!, w, p, n));
    if (this.live < 0) return;
    move.fill(0);
    turn.fill(0);
    add(this.targets[this.live]!, 1, move, turn);
  }

  /** Number of vertices that weights move by more than 1 µm, for tests. */
  moved(): number {
    const moves = new Float32Array(this.base.length);
    this.weights.forEach((w, i) => w !== 0 && add(this.targets[i]!, w, moves, new Float32Array(this.base.length)));
    let count = 0;
    for (let i = 0; i < moves.length; i += 3) {
      if (Math.max(Math.abs(moves[i]!), Math.abs(moves[i + 1]!), Math.abs(moves[i + 2]!)) > 1e-6) count++;
    }
    return count;
  }
}

function add(target: Target, w: number, p: Float32Array, n: Float32Array): void {
  const { ids, positions, normals } = target;
  for (let k = 0; k < ids.length; k++) {
    const at = 3 * ids[k]!, from = 3 * k;
    p[at] = p[at]! + w * positions[from]!;
    p[at + 1] = p[at + 1]! + w * positions[from + 1]!;
    p[at + 2] = p[at + 2]! + w * positions[from + 2]!;
    n[at] = n[at]! + w * normals[from]!;
    n[at + 1] = n[at + 1]! + w * normals[from + 1]!;
    n[at + 2] = n[at + 2]! + w * normals[from + 2]!;
  }
}

function plain(attribute: BufferAttribute | InterleavedBufferAttribute): Float32Array {
  const out = new Float32Array(3 * attribute.count);
  for (let i = 0; i < attribute.count; i++) {
    out[3 * i] = attribute.getX(i);
    out[3 * i + 1] = attribute.getY(i);
    out[3 * i + 2] = attribute.getZ(i);
  }
  return out;
}

function sparse(positions: Float32Array, normals: Float32Array): Target {
  const ids: number[] = [];
  for (let i = 0; i < positions.length; i += 3) {
    let any = 0;
    for (let k = 0; k < 3; k++) any += Math.abs(positions[i + k]!) + Math.abs(normals[i + k]!);
    if (any > 0) ids.push(i / 3);
  }
  const take = (values: Float32Array) => {
    const out = new Float32Array(3 * ids.length);
    ids.forEach((id, k) => out.set(values.subarray(3 * id, 3 * id + 3), 3 * k));
    return out;
  };
  return { ids: Uint32Array.from(ids), positions: take(positions), normals: take(normals) };
}
