# docker build .                                                                  CPU
# docker build --build-arg BASE=nvidia/cuda:12.8.1-devel-ubuntu24.04 .            with the CUDA kernels
# --build-arg TORCH_INDEX=URL takes torch from another index, such as its own of smaller builds for CPUs.
ARG BASE=ubuntu:24.04
FROM ${BASE} AS build
ARG TORCH_INDEX=""
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/ikem
ENV PATH=/opt/ikem/bin:$PATH
RUN pip install --no-cache-dir torch ${TORCH_INDEX:+--index-url ${TORCH_INDEX}} \
    && pip install --no-cache-dir "numpy>=1.26" setuptools wheel pybind11 ninja
COPY . /src
RUN pip install --no-cache-dir --no-build-isolation "/src[triton,report]"

FROM ${BASE}
# A C compiler is what Triton needs to launch a kernel; ffmpeg writes films.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ffmpeg gcc libc6-dev python3 python3-dev \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/ikem /opt/ikem
ENV PATH=/opt/ikem/bin:$PATH
WORKDIR /ikem
ENTRYPOINT ["ikem-fast"]
CMD ["doctor"]
