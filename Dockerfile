# The chapter in Jupyter, for Docker Desktop on a Mac or on Windows, for Linux, editors (.devcontainer) and Binder (.binder):
#
#   docker build -t gluon_lenet .
#   docker run -it -p 127.0.0.1:8888:8888 gluon_lenet      and open the address http://127.0.0.1:8888/... that it prints
#
# tests/roots/container.sh runs these lines without Docker.
FROM debian:trixie-slim

RUN apt-get update && \
    apt-get install -y --no-install-recommends ca-certificates git make python3 python3-venv && \
    rm -rf /var/lib/apt/lists/*

# Binder's user has the number 1000.
RUN useradd --create-home --uid 1000 reader
USER reader
RUN mkdir /home/reader/gluon_lenet
WORKDIR /home/reader/gluon_lenet

# The environment is outside of the checkout, which an editor replaces by the reader's own.
ENV GLUON_LENET_VENV=/home/reader/venv PATH=/home/reader/venv/bin:/usr/local/bin:/usr/bin:/bin
COPY --chown=reader . .
RUN make /home/reader/venv/.ready && rm -rf ~/.cache/pip
RUN python -m gluon_lenet.data fetch fashion_mnist

EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser", "--LabApp.default_url=/lab/tree/notebooks/lenet.ipynb"]
