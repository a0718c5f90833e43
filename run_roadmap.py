"""The roadmap from ResNet to ConvNeXt: build, count, train and draw every step."""

from ablations.cli import main

if __name__ == "__main__":
    main()
