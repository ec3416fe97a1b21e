# An image that runs omote from its wheel, as a user without rights:
#
#     docker build -t omote .
#     docker run --rm -v "$PWD:/data" --user "$(id -u):$(id -g)" --network none omote avatar scan.ply --out avatar.glb
#
# EXTRAS names extras of pyproject.toml, TORCH_INDEX the index that torch comes from (the default has no CUDA).

FROM python:3.11-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:3.11-slim-bookworm
ARG EXTRAS=formats,openvino
ARG TORCH=2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python -m pip install --no-cache-dir --index-url "${TORCH_INDEX}" "torch==${TORCH}"
COPY --from=wheel /wheel /wheel
RUN python -m pip install --no-cache-dir "$(ls /wheel/omote-*.whl)[${EXTRAS}]" && rm -r /wheel

# Any user may run it, so compiled kernels lie in a folder that all can write; the trial run compiles them.
ENV NUMBA_CACHE_DIR=/var/cache/omote HOME=/tmp
RUN mkdir -p /var/cache/omote \
    && omote demo --out /tmp/demo \
    && rm -r /tmp/demo \
    && chmod -R a+rwX /var/cache/omote
USER 65534:65534
WORKDIR /data
ENTRYPOINT ["omote"]
CMD ["--help"]
