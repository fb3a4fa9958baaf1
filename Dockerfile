# crysjepa on a CPU:   docker build -t crysjepa .
# The quick run:       docker run --rm -v "$PWD:/work" crysjepa discover --out run
FROM python:3.11-slim

ENV OMP_NUM_THREADS=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/crysjepa
COPY . .
# PyTorch without CUDA first, at the version that is pinned; PyPI's would bring 3 GB of it.
RUN pip install --index-url https://download.pytorch.org/whl/cpu "$(grep '^torch==' constraints.txt)" \
    && pip install -c constraints.txt ".[sevennet]"
# Outputs belong to whoever starts the container: docker run --user "$(id -u):$(id -g)" …
ENV HOME=/tmp
WORKDIR /work
ENTRYPOINT ["crysjepa"]
CMD ["--help"]
