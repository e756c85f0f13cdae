// SPDX-License-Identifier: Apache-2.0
//! Placeholder of the model.
