// A canvas with an avatar or a scan: turn, light, wires, what no camera saw, weights, and picked points.
import {
  AmbientLight, Box3, Color, DirectionalLight, Group, HemisphereLight, Material, Mesh, MeshBasicMaterial, MeshPhongMaterial,
  MeshStandardMaterial, Object3D, PerspectiveCamera, Points, PointsMaterial, Raycaster, Scene, SphereGeometry, SRGBColorSpace,
  Texture, Vector2, Vector3, WebGLRenderer,
} from 'three';
import { GLTFLoader } from 'three/addons/loaders/GLTFLoader.js';
import { OrbitControls } from 'three/addons/controls/OrbitControls.js';
import { Morphs } from './morphs';

export type Weights = Record<string, number>;
type Decoder = Parameters<GLTFLoader['setMeshoptDecoder']>[0];

const SEEN_NOT = new Color(0x00a0a8);
const STEP_RAD = 0.12;

/** What a file says of itself. */
export interface Loaded {
  names: string[];
  extras: Record<string, unknown>;
}

export class Viewer {
  readonly camera = new PerspectiveCamera(26, 1, 0.01, 20);
  readonly controls: OrbitControls;
  /** Called after the camera has moved. */
  onMove: (() => void) | null = null;
  /** Called with a point on the surface that was clicked, in the file's coordinates. */
  onPick: ((point: Vector3) => void) | null = null;
  private readonly renderer: WebGLRenderer;
  private readonly scene = new Scene();
  private readonly content = new Group();
  private readonly marks = new Group();
  private readonly key = new DirectionalLight(0xffffff, 2.1);
  private readonly sky = new HemisphereLight(0xffffff, 0x8a8078, 1.15);
  private readonly observer: ResizeObserver;
  private morphs: Morphs[] = [];
  private masked: (MeshStandardMaterial | MeshPhongMaterial)[] = [];
  private root: Object3D | null = null;
  private pending = 0;
  private size = 1;
  private center = new Vector3();
  private frames: number[] = [];

  constructor(readonly canvas: HTMLCanvasElement, private readonly decoder?: Decoder) {
    this.renderer = new WebGLRenderer({ canvas, antialias: true, alpha: true, preserveDrawingBuffer: true });
    this.renderer.setPixelRatio(Math.min(2, devicePixelRatio));
    this.scene.add(this.sky, this.key, this.key.target, new AmbientLight(0xffffff, 0.25), this.content, this.marks);
    this.controls = new OrbitControls(this.camera, canvas);
    this.controls.enablePan = true;
    this.controls.addEventListener('change', () => {
      this.onMove?.();
      this.draw();
    });
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(canvas.parentElement ?? canvas);
    let down: [number, number] = [0, 0];
    canvas.addEventListener('pointerdown', (e) => (down = [e.clientX, e.clientY]));
    canvas.addEventListener('click', (e) => {
      if (Math.hypot(e.clientX - down[0], e.clientY - down[1]) < 5) this.pickAt(e.clientX, e.clientY);
    });
    canvas.addEventListener('keydown', (e) => this.onKey(e));
    this.setLight(0.4, 1);
    this.resize();
  }

  /** Load a GLB or VRM in place of what is shown. */
  async load(url: string): Promise<Loaded> {
    const loader = new GLTFLoader();
    if (this.decoder) loader.setMeshoptDecoder(this.decoder);
    const gltf = await loader.loadAsync(url);
    this.clear();
    const names: string[] = [];
    gltf.scene.traverse((object) => {
      if (object instanceof Points) {
        const old = object.material as PointsMaterial;
        object.material = new PointsMaterial({ size: 0.006, vertexColors: old.vertexColors, color: old.vertexColors ? 0xffffff : 0xb9a89c });
      }
      if (!(object instanceof Mesh)) return;
      if (object.geometry.morphAttributes.position?.length) {
        const morphs = new Morphs(object);
        this.morphs.push(morphs);
        for (const name of morphs.names) if (!names.includes(name)) names.push(name);
      }
      const material = object.material;
      if (material instanceof MeshStandardMaterial) {
        object.material = cheaper(material);
        if (material.name === 'skin') this.masked.push(object.material as MeshPhongMaterial);
      }
    });
    this.root = gltf.scene;
    this.content.add(gltf.scene);
    this.frame();
    const asset = (gltf as unknown as { asset: { extras?: Record<string, unknown> } }).asset;
    return { names, extras: asset.extras ?? {} };
  }

  /** Show the head from the front. */
  frame(): void {
    const box = new Box3();
    const heads: Object3D[] = [];
    this.content.traverse((o) => o.name === 'head' && heads.push(o));
    for (const object of heads.length ? heads : [this.content]) box.expandByObject(object);
    box.getCenter(this.center);
    this.size = Math.max(...box.getSize(new Vector3()).toArray(), 1e-3);
    const away = (this.size * 0.62) / Math.tan((this.camera.fov * Math.PI) / 360) / Math.min(1, this.camera.aspect || 1);
    this.camera.near = this.size / 50;
    this.camera.far = this.size * 30;
    this.camera.position.set(this.center.x, this.center.y, this.center.z + away);
    this.controls.target.copy(this.center);
    this.controls.minDistance = this.size * 0.3;
    this.controls.maxDistance = this.size * 8;
    this.camera.updateProjectionMatrix();
    this.controls.update();
    this.draw();
  }

  /** Turn what is shown by half a turn about an axis: frames of cameras lie upside down. */
  setFlip(x: number, y: number, z: number): void {
    this.content.rotation.set(x, y, z);
    this.marks.rotation.copy(this.content.rotation);
    this.content.updateMatrixWorld(true);
    this.frame();
  }

  setWeights(weights: Weights): void {
    for (const morphs of this.morphs) morphs.show(weights);
    this.draw();
  }

  /** Turn the head; radians. */
  setTurn(yaw: number, pitch: number, roll: number): void {
    this.root?.rotation.set(-pitch, yaw, -roll, 'YXZ');
    this.draw();
  }

  /** Where the light comes from (radians to the person's left) and how bright it is. */
  setLight(angle: number, strength: number): void {
    this.key.position.set(Math.sin(angle) * 2, 1.1, Math.cos(angle) * 2);
    this.key.intensity = 2.1 * strength;
    this.sky.intensity = 1.15 * Math.sqrt(strength);
    this.draw();
  }

  setWires(on: boolean): void {
    this.content.traverse((object) => {
      if (object instanceof Mesh) (object.material as MeshPhongMaterial).wireframe = on;
    });
    this.draw();
  }

  /** Colour what no camera saw; the mask is a picture in the skin's texture coordinates, or null. */
  setMask(picture: HTMLImageElement | null): void {
    for (const material of this.masked) {
      material.emissiveMap?.dispose();
      material.emissiveMap = null;
      material.emissive.set(0);
      if (picture) {
        const texture = new Texture(picture);
        texture.flipY = false;
        texture.colorSpace = SRGBColorSpace;
        texture.needsUpdate = true;
        material.emissiveMap = texture;
        material.emissive.copy(SEEN_NOT);
      }
      material.needsUpdate = true;
    }
    this.draw();
  }

  /** Put a mark at a point in the file's coordinates; the number of marks. */
  addMark(point: Vector3, color: number): number {
    const mark = new Mesh(new SphereGeometry(this.size * 0.009, 12, 8), new MeshBasicMaterial({ color }));
    mark.position.copy(point);
    this.marks.add(mark);
    this.draw();
    return this.marks.children.length;
  }

  removeMark(): void {
    const last = this.marks.children.at(-1);
    if (last) this.marks.remove(last);
    this.draw();
  }

  clearMarks(): void {
    this.marks.clear();
    this.draw();
  }

  /** Pick what lies under a point of the window, or in the middle of the canvas. */
  pickAt(clientX?: number, clientY?: number): void {
    if (!this.onPick) return;
    const box = this.canvas.getBoundingClientRect();
    const x = clientX === undefined ? 0 : ((clientX - box.left) / box.width) * 2 - 1;
    const y = clientY === undefined ? 0 : 1 - ((clientY - box.top) / box.height) * 2;
    const caster = new Raycaster();
    caster.params.Points.threshold = this.size * 0.006;
    caster.setFromCamera(new Vector2(x, y), this.camera);
    const hits = caster.intersectObject(this.content, true);
    const hit = hits[0]?.object instanceof Points ? nearest(hits) : hits[0];
    if (hit) this.onPick(this.content.worldToLocal(hit.point.clone()));
  }

  /** Take over another viewer's camera. */
  follow(other: Viewer): void {
    this.camera.position.copy(other.camera.position);
    this.camera.quaternion.copy(other.camera.quaternion);
    this.controls.target.copy(other.controls.target);
    this.camera.updateMatrixWorld();
    this.draw();
  }

  /** Draw before the next repaint. */
  draw(): void {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = 0;
      this.render();
    });
  }

  /** Draw now. */
  render(): void {
    this.renderer.render(this.scene, this.camera);
    this.frames.push(performance.now());
    if (this.frames.length > 120) this.frames.shift();
  }

  /** Frames per second of the last frames, for measurements. */
  rate(): number {
    const spans = this.frames.slice(1).map((t, i) => t - this.frames[i]!).filter((t) => t < 500);
    return spans.length ? 1000 / (spans.reduce((a, b) => a + b) / spans.length) : 0;
  }

  moved(): number {
    return this.morphs.reduce((sum, morphs) => sum + morphs.moved(), 0);
  }

  dispose(): void {
    cancelAnimationFrame(this.pending);
    this.pending = -1;
    this.observer.disconnect();
    this.controls.dispose();
    this.clear();
    this.renderer.dispose();
    this.renderer.forceContextLoss();
  }

  private clear(): void {
    this.content.traverse((object) => {
      if (object instanceof Mesh || object instanceof Points) {
        object.geometry.dispose();
        for (const material of [object.material].flat() as Material[]) {
          (material as MeshPhongMaterial).map?.dispose();
          material.dispose();
        }
      }
    });
    this.content.clear();
    this.content.rotation.set(0, 0, 0);
    this.marks.clear();
    this.morphs = [];
    this.masked = [];
  }

  private resize(): void {
    const box = (this.canvas.parentElement ?? this.canvas).getBoundingClientRect();
    const width = Math.max(1, Math.floor(box.width)), height = Math.max(1, Math.floor(box.height));
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    this.camera.updateProjectionMatrix();
    this.draw();
  }

  private onKey(event: KeyboardEvent): void {
    const turn = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const offset = this.camera.position.clone().sub(this.controls.target);
    if (turn) {
      offset.applyAxisAngle(this.camera.up, STEP_RAD * turn[0]!);
      const side = new Vector3().crossVectors(this.camera.up, offset).normalize();
      const tilted = offset.clone().applyAxisAngle(side, STEP_RAD * turn[1]!);
      if (Math.abs(tilted.clone().normalize().dot(this.camera.up)) < 0.99) offset.copy(tilted);
    } else if (event.key === '+' || event.key === '-') {
      offset.multiplyScalar(event.key === '+' ? 0.9 : 1.1);
    } else if (event.key === 'Enter' && this.onPick) {
      this.pickAt();
      return;
    } else if (event.key === '0') {
      this.frame();
      return;
    } else {
      return;
    }
    event.preventDefault();
    this.camera.position.copy(this.controls.target).add(offset);
    this.controls.update();
    this.draw();
  }
}

function nearest<T extends { distance: number; distanceToRay?: number }>(hits: T[]): T | undefined {
  const close = hits[0]!.distance;
  return hits.filter((h) => h.distance < close * 1.02).sort((a, b) => (a.distanceToRay ?? 0) - (b.distanceToRay ?? 0))[0];
}

// The same look with half the work per pixel, which a renderer in software needs.
function cheaper(from: MeshStandardMaterial): MeshPhongMaterial {
  const gloss = (1 - from.roughness) ** 2;
  const material = new MeshPhongMaterial({
    name: from.name, color: from.color, map: from.map, vertexColors: from.vertexColors, side: from.side,
    transparent: from.transparent, opacity: from.opacity, alphaTest: from.alphaTest,
    shininess: 10 + 80 * gloss, specular: new Color().setScalar(0.04 + 0.3 * gloss),
  });
  from.dispose();
  return material;
}
