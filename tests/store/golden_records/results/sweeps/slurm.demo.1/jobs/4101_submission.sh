#!/bin/bash

# Parameters
#SBATCH --array=0-13%14
#SBATCH --comment='harness slurm.demo.1: d7313f873517 a44bfad6046d 51ff16d96817 7d87c1d94791 00f6e3e5525f 21067aa6fb41 59eda0cb21f3 b2cce0e23b3a 99432255168a 9fe4ee6431bb f27ac6ecf4bf fe51257f7bfb 79caf8c35be5 d17e8484bec6'
#SBATCH --cpus-per-task=1
#SBATCH --error=/mnt/results/sweeps/slurm.demo.1/jobs/%A_%a_0_log.err
#SBATCH --job-name=slurm.demo.1-1-620027
#SBATCH --mem=2048M
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/mnt/results/sweeps/slurm.demo.1/jobs/%A_%a_0_log.out
#SBATCH --partition=main
#SBATCH --requeue
#SBATCH --signal=USR2@30
#SBATCH --time=240

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /mnt/results/sweeps/slurm.demo.1/jobs/%A_%a_%t_log.out --error /mnt/results/sweeps/slurm.demo.1/jobs/%A_%a_%t_log.err --export=ALL --kill-on-bad-exit=1 /opt/harness/bin/python -u -m submitit.core._submit /mnt/results/sweeps/slurm.demo.1/jobs
