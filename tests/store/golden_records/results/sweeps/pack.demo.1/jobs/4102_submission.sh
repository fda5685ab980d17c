#!/bin/bash

# Parameters
#SBATCH --comment='harness pack.demo.1: 2b349ea8512b 4dae3302c3a4'
#SBATCH --cpus-per-task=1
#SBATCH --error=/mnt/results/sweeps/pack.demo.1/jobs/%j_0_log.err
#SBATCH --job-name=pack.demo.1-1-e803d2
#SBATCH --mem=2048M
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/mnt/results/sweeps/pack.demo.1/jobs/%j_0_log.out
#SBATCH --partition=main
#SBATCH --requeue
#SBATCH --signal=USR2@30
#SBATCH --time=240

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /mnt/results/sweeps/pack.demo.1/jobs/%j_%t_log.out --error /mnt/results/sweeps/pack.demo.1/jobs/%j_%t_log.err --export=ALL --kill-on-bad-exit=1 /opt/harness/bin/python -u -m submitit.core._submit /mnt/results/sweeps/pack.demo.1/jobs
