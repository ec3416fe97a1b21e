// A canvas with an avatar or a scan: turn, light, wires, what is not from the scan, weights, and picked points.
import {
  Box3, type BufferGeometry, CanvasTexture, Color, DoubleSide, FrontSide, Group, type IUniform, LinearMipmapNearestFilter, type Material, Mesh, MeshBasicMaterial,
  MeshStandardMaterial, NoColorSpace, Object3D, PerspectiveCamera, Points, PointsMaterial, Quaternion, Raycaster, Scene, ShaderMaterial, SphereGeometry, type Texture, Vector2, Vector3,
  WebGLRenderer,
} from 'three';
import { GLTFLoader } from 'three/addons/loaders/GLTFLoader.js';
import { OrbitControls } from 'three/addons/controls/OrbitControls.js';
import { Morphs } from './morphs';
import { reordered } from './order';

export type Weights = Record<string, number>;
type Decoder = Parameters<GLTFLoader['setMeshoptDecoder']>[0];

const UNSEEN = '#0097b2';
const UNSEEN_OPACITY = 0.6;
const STEP_RAD = 0.12;
const LOW = -0.25; // upward component of a view from below
const MARK = 0.004; // radius of a mark, in distances from the camera
const CLAY = 0xa3978c; // of surfaces without colour
const KEY = 0.64, SKY = 0.6; // brightness of the lamp and of the sky

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
  private readonly toKey = new Vector3();
  private readonly lamps = {
    toKey: { value: new Vector3() }, toHalf: { value: new Vector3() }, upward: { value: new Vector3() }, key: { value: KEY }, sky: { value: SKY },
  };
  private readonly observer: ResizeObserver;
  private morphs: Morphs[] = [];
  private masked: Lit[] = [];
  private root: Object3D | null = null;
  private pending = 0;
  private size = 1;
  private center = new Vector3();
  private frames: number[] = [];
  /** Whether the camera is where `frame` put it, so that another shape of the window moves it too. */
  private framed = false;

  constructor(readonly canvas: HTMLCanvasElement, private readonly decoder?: Decoder) {
    const hardware = !inSoftware();
    this.renderer = new WebGLRenderer({ canvas, antialias: hardware, alpha: true, preserveDrawingBuffer: true });
    this.renderer.setPixelRatio(hardware ? Math.min(2, devicePixelRatio) : 1);
    this.scene.add(this.content, this.marks);
    this.controls = new OrbitControls(this.camera, canvas);
    this.controls.zoomToCursor = true;
    this.controls.addEventListener('start', () => (this.framed = false));
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
      const { index } = object.geometry as BufferGeometry;
      if (index) index.array.set(reordered(index.array, object.geometry.getAttribute('position').count));
      let morphs: Morphs | null = null;
      if (object.geometry.morphAttributes.position?.length) {
        morphs = new Morphs(object);
        this.morphs.push(morphs);
        for (const name of morphs.names) if (!names.includes(name)) names.push(name);
      }
      const material = object.material;
      if (material instanceof MeshStandardMaterial) {
        const lit = new Lit(material, this.lamps, morphs);
        object.material = lit;
        if (lit.name === 'skin') this.masked.push(lit);
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
    // A VRM has a bone of that name, too.
    this.content.traverse((o) => void (/^head(_\d+)?$/.test(o.name) && box.expandByObject(o)));
    if (box.isEmpty()) box.expandByObject(this.content);
    box.getCenter(this.center);
    this.size = Math.max(...box.getSize(new Vector3()).toArray(), 1e-3);
    const extent = box.getSize(new Vector3());
    const half = Math.max(extent.y, extent.x / (this.camera.aspect || 1)) / 2;
    const away = (half * 1.15) / Math.tan((this.camera.fov * Math.PI) / 360) + extent.z / 2;
    this.camera.near = this.size / 50;
    this.camera.far = this.size * 30;
    this.camera.position.set(this.center.x, this.center.y, this.center.z + away);
    this.controls.target.copy(this.center);
    this.controls.minDistance = this.size * 0.3;
    this.controls.maxDistance = this.size * 8;
    this.camera.updateProjectionMatrix();
    this.controls.update();
    this.framed = true;
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
    this.toKey.set(Math.sin(angle), 0.55, Math.cos(angle)).normalize();
    this.lamps.key.value = KEY * strength;
    this.lamps.sky.value = SKY * Math.sqrt(strength);
    this.draw();
  }

  setWires(on: boolean): void {
    this.content.traverse((object) => {
      if (object instanceof Mesh) (object.material as ShaderMaterial).wireframe = on;
    });
    this.draw();
  }

  /** Colour what is not from the scan; the mask is a picture in the skin's texture coordinates, opaque there, or null. */
  setMask(picture: HTMLImageElement | null): void {
    for (const lit of this.masked) {
      if (lit.uniforms.map!.value !== lit.map) (lit.uniforms.map!.value as Texture).dispose();
      lit.show(picture && lit.map ? tinted(lit.map, picture) : lit.map);
    }
    this.draw();
  }

  /** Put a mark at a point in the file's coordinates; the number of marks. */
  addMark(point: Vector3, color: number): number {
    const mark = new Mesh(new SphereGeometry(1, 12, 8), new MeshBasicMaterial({ color }));
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

  /** Where a point in the file's coordinates is in the window, for tests. */
  screenOf(point: [number, number, number]): [number, number] {
    const place = this.content.localToWorld(new Vector3(...point)).project(this.camera);
    const box = this.canvas.getBoundingClientRect();
    return [box.left + ((place.x + 1) / 2) * box.width, box.top + ((1 - place.y) / 2) * box.height];
  }

  /** Take over another viewer's camera. */
  follow(other: Viewer): void {
    this.framed = false;
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
    const place = new Vector3();
    for (const mark of this.marks.children) mark.scale.setScalar(MARK * this.camera.position.distanceTo(mark.getWorldPosition(place)));
    this.aim();
    this.renderer.render(this.scene, this.camera);
    this.frames.push(performance.now());
    if (this.frames.length > 120) this.frames.shift();
  }

  // Lamps in the coordinates of what turns; the skin's inside is drawn only when one looks up at it.
  private aim(): void {
    const turn = (this.root ?? this.content).getWorldQuaternion(new Quaternion()).invert();
    const view = this.camera.position.clone().sub(this.controls.target).normalize();
    this.lamps.toKey.value.copy(this.toKey).applyQuaternion(turn);
    this.lamps.upward.value.set(0, 1, 0).applyQuaternion(turn);
    this.lamps.toHalf.value.copy(this.toKey).add(view).normalize().applyQuaternion(turn);
    const side = view.clone().applyQuaternion(turn).y < LOW ? DoubleSide : FrontSide;
    for (const lit of this.masked) {
      if (!lit.opened || lit.side === side) continue;
      lit.side = side;
      lit.needsUpdate = true;
    }
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
          (material as Lit).map?.dispose();
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
    if (this.framed) this.frame();
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
    this.framed = false;
    this.camera.position.copy(this.controls.target).add(offset);
    this.controls.update();
    this.draw();
  }
}

// Whether a processor draws, to which smooth edges are too dear.
let software: boolean | undefined;
function inSoftware(): boolean {
  if (software === undefined) {
    const gl = document.createElement('canvas').getContext('webgl2');
    const info = gl?.getExtension('WEBGL_debug_renderer_info');
    software = /swiftshader|llvmpipe|software|basic render/i.test(String(info && gl?.getParameter(info.UNMASKED_RENDERER_WEBGL)));
    gl?.getExtension('WEBGL_lose_context')?.loseContext();
  }
  return software;
}

function nearest<T extends { distance: number; distanceToRay?: number }>(hits: T[]): T | undefined {
  const close = hits[0]!.distance;
  return hits.filter((h) => h.distance < close * 1.02).sort((a, b) => (a.distanceToRay ?? 0) - (b.distanceToRay ?? 0))[0];
}

// A skin with a colour over what a mask covers.
function tinted(skin: Texture, mask: HTMLImageElement): Texture {
  const image = skin.image as ImageBitmap;
  const [canvas, tint] = [document.createElement('canvas'), document.createElement('canvas')];
  canvas.width = tint.width = image.width;
  canvas.height = tint.height = image.height;
  const over = tint.getContext('2d')!, out = canvas.getContext('2d')!;
  over.drawImage(mask, 0, 0, tint.width, tint.height);
  over.globalCompositeOperation = 'source-in';
  over.fillStyle = UNSEEN;
  over.fillRect(0, 0, tint.width, tint.height);
  out.drawImage(image, 0, 0);
  out.globalAlpha = UNSEEN_OPACITY;
  out.drawImage(tint, 0, 0);
  const texture = new CanvasTexture(canvas);
  texture.flipY = skin.flipY;
  texture.minFilter = LinearMipmapNearestFilter;
  texture.colorSpace = skin.colorSpace;
  return texture;
}

// Light at the vertices, which lie close: a renderer in software then pays for one multiplication per pixel. A product of a
// texture and light in linear light is, after gamma, the product of the texture as it is stored and the light after gamma.
// One morph target moves here, so that a slider uploads nothing (`Morphs`).
const VERTEX = `
  varying vec3 vLight;
  #ifdef USE_MAP
    varying vec2 vMapUv;
  #endif
  #ifdef LIVE
    attribute vec3 liveMove, liveTurn;
    uniform float liveWeight;
  #endif
  uniform vec3 toKey, toHalf, upward, rootTint;
  uniform float key, sky, gloss;
  void main() {
    #ifdef LIVE
      vec3 at = position + liveWeight * liveMove, n = normalize(normal + liveWeight * liveTurn);
    #else
      vec3 at = position, n = normalize(normal);
    #endif
    float shine = max(dot(n, toHalf), 0.0);
    shine *= shine; shine *= shine; shine *= shine; shine *= shine;
    float light = sky * (0.78 + 0.22 * dot(n, upward)) + key * (max(dot(n, toKey), 0.0) + gloss * shine);
    vLight = sqrt(light) * rootTint;
    #if defined(USE_COLOR) || defined(USE_COLOR_ALPHA)
      vLight *= sqrt(color.rgb);
    #endif
    #ifdef USE_MAP
      vMapUv = uv;
    #endif
    gl_Position = projectionMatrix * (modelViewMatrix * vec4(at, 1.0));
  }`;
const FRAGMENT = `
  varying vec3 vLight;
  #ifdef USE_MAP
    uniform sampler2D map;
    varying vec2 vMapUv;
  #endif
  void main() {
    #ifdef USE_MAP
      gl_FragColor = vec4(texture2D(map, vMapUv).rgb * vLight, 1.0);
    #else
      gl_FragColor = vec4(vLight, 1.0);
    #endif
  }`;

/** A surface with the light of a lamp and of the sky. */
class Lit extends ShaderMaterial {
  map: Texture | null;
  /** Whether its inside can be seen. */
  readonly opened: boolean;

  constructor(from: MeshStandardMaterial, lamps: Record<string, IUniform>, morphs: Morphs | null) {
    const tint = from.name === 'scan' && !from.map && !from.vertexColors ? new Color(CLAY) : from.color;
    const live = { value: 0 };
    super({
      name: from.name, side: from.side, vertexColors: from.vertexColors, vertexShader: VERTEX, fragmentShader: FRAGMENT,
      defines: { ...(from.map ? { USE_MAP: '' } : {}), ...(morphs ? { LIVE: '' } : {}) },
      uniforms: {
        ...lamps, map: { value: from.map }, gloss: { value: 0.25 * (1 - from.roughness) }, liveWeight: live,
        rootTint: { value: new Vector3(tint.r, tint.g, tint.b).toArray().map(Math.sqrt) },
      },
    });
    if (morphs) morphs.onWeight = (weight) => void (live.value = weight);
    this.map = from.map;
    this.opened = from.side === DoubleSide;
    if (from.map) {
      from.map.colorSpace = NoColorSpace;
      from.map.minFilter = LinearMipmapNearestFilter;
      from.map.needsUpdate = true;
    }
    from.dispose();
  }

  show(map: Texture | null): void {
    this.uniforms.map!.value = map;
  }
}
