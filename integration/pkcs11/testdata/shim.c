/*
 * A PKCS#11 module that forwards to another one, for tests: it counts C_Login,
 * changes the token's flags and breaks to order.
 *
 * SHIM_MODULE is the module behind it. In the folder SHIM_DIR the file "log" gets
 * a line for each C_Login, and files switch it: locked, final and low set the flag of
 * the user PIN; stop answers CKR_DEVICE_REMOVED; stall does not answer; garble
 * answers with the PIN; vague fails C_Login with no word on the PIN; deny refuses as after a logout, with the PIN locked. drop and
 * logout are taken by one signature: before it the sessions that there are become
 * invalid, or are logged out.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CK_PTR *
#define CK_DEFINE_FUNCTION(returnType, name) returnType name
#define CK_DECLARE_FUNCTION(returnType, name) returnType name
#define CK_DECLARE_FUNCTION_POINTER(returnType, name) returnType(*name)
#define CK_CALLBACK_FUNCTION(returnType, name) returnType(*name)
#ifndef NULL_PTR
#define NULL_PTR 0
#endif
#include "pkcs11.h"

static CK_FUNCTION_LIST real, shim;
static unsigned char pin[256];
static CK_ULONG pinlen;

static void path(char *buf, size_t n, const char *name)
{
	const char *dir = getenv("SHIM_DIR");
	snprintf(buf, n, "%s/%s", dir ? dir : "/nonexistent", name);
}

static int on(const char *name)
{
	char p[4096];
	path(p, sizeof p, name);
	return access(p, F_OK) == 0;
}

static CK_RV fault(void)
{
	while (on("stall"))
		usleep(5000);
	return on("stop") ? CKR_DEVICE_REMOVED : CKR_OK;
}

static CK_RV login(CK_SESSION_HANDLE s, CK_USER_TYPE user, CK_UTF8CHAR_PTR value, CK_ULONG len)
{
	char p[4096];
	FILE *log;
	CK_RV rv = fault();
	if (rv != CKR_OK)
		return rv;
	path(p, sizeof p, "log");
	if ((log = fopen(p, "a"))) {
		fprintf(log, "C_Login\n");
		fclose(log);
	}
	if (len <= sizeof pin) {
		memcpy(pin, value, len);
		pinlen = len;
	}
	if (on("vague"))
		return CKR_FUNCTION_FAILED;
	return real.C_Login(s, user, value, len);
}

static CK_RV slots(CK_BBOOL present, CK_SLOT_ID_PTR list, CK_ULONG_PTR n)
{
	CK_RV rv = fault();
	return rv == CKR_OK ? real.C_GetSlotList(present, list, n) : rv;
}

static CK_RV token(CK_SLOT_ID slot, CK_TOKEN_INFO_PTR info)
{
	CK_RV rv = fault();
	if (rv == CKR_OK)
		rv = real.C_GetTokenInfo(slot, info);
	if (rv != CKR_OK)
		return rv;
	if (on("locked") || on("deny"))
		info->flags |= CKF_USER_PIN_LOCKED;
	if (on("final"))
		info->flags |= CKF_USER_PIN_FINAL_TRY;
	if (on("low"))
		info->flags |= CKF_USER_PIN_COUNT_LOW;
	return CKR_OK;
}

/* SoftHSM numbers sessions upwards from 1 until C_Finalize. */
static volatile CK_SESSION_HANDLE newest, invalid;

static CK_RV finalize(CK_VOID_PTR reserved)
{
	newest = invalid = 0;
	return real.C_Finalize(reserved);
}

static CK_RV session(CK_SLOT_ID slot, CK_FLAGS flags, CK_VOID_PTR app, CK_NOTIFY notify, CK_SESSION_HANDLE_PTR s)
{
	CK_RV rv = fault();
	if (rv == CKR_OK)
		rv = real.C_OpenSession(slot, flags, app, notify, s);
	if (rv == CKR_OK && *s > newest)
		newest = *s;
	return rv;
}

static CK_RV state(CK_SESSION_HANDLE s, CK_SESSION_INFO_PTR info)
{
	CK_RV rv = fault();
	if (rv == CKR_OK)
		rv = real.C_GetSessionInfo(s, info);
	if (rv == CKR_OK && on("deny"))
		info->state = CKS_RO_PUBLIC_SESSION;
	return rv;
}

static CK_RV find(CK_SESSION_HANDLE s, CK_ATTRIBUTE_PTR t, CK_ULONG n)
{
	CK_RV rv = fault();
	if (rv == CKR_OK && on("deny"))
		rv = CKR_USER_NOT_LOGGED_IN;
	return rv == CKR_OK ? real.C_FindObjectsInit(s, t, n) : rv;
}

static CK_RV attributes(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ATTRIBUTE_PTR t, CK_ULONG n)
{
	CK_ULONG i;
	if (!on("garble"))
		return real.C_GetAttributeValue(s, o, t, n);
	for (i = 0; i < n; i++) {
		if (t[i].pValue)
			memcpy(t[i].pValue, pin, t[i].ulValueLen < pinlen ? t[i].ulValueLen : pinlen);
		t[i].ulValueLen = pinlen;
	}
	return CKR_OK;
}

static int once(const char *name)
{
	char p[4096];
	path(p, sizeof p, name);
	return unlink(p) == 0;
}

static CK_RV signinit(CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_OBJECT_HANDLE key)
{
	CK_RV rv = fault();
	if (rv == CKR_OK && on("deny"))
		rv = CKR_USER_NOT_LOGGED_IN;
	if (once("drop"))
		invalid = newest;
	if (once("logout"))
		real.C_Logout(s);
	if (s <= invalid)
		return CKR_SESSION_HANDLE_INVALID;
	return rv == CKR_OK ? real.C_SignInit(s, m, key) : rv;
}

static CK_RV sign(CK_SESSION_HANDLE s, CK_BYTE_PTR data, CK_ULONG n, CK_BYTE_PTR sig, CK_ULONG_PTR siglen)
{
	CK_RV rv = real.C_Sign(s, data, n, sig, siglen);
	if (rv == CKR_OK && sig && on("garble")) {
		if (*siglen > pinlen)
			*siglen = pinlen;
		memcpy(sig, pin, *siglen);
	}
	return rv;
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list)
{
	CK_C_GetFunctionList get;
	CK_FUNCTION_LIST_PTR behind;
	CK_RV rv;
	const char *module = getenv("SHIM_MODULE");
	void *lib = module ? dlopen(module, RTLD_NOW) : NULL;
	if (!lib || !(get = (CK_C_GetFunctionList)dlsym(lib, "C_GetFunctionList")))
		return CKR_GENERAL_ERROR;
	if ((rv = get(&behind)) != CKR_OK)
		return rv;
	real = shim = *behind;
	shim.C_Finalize = finalize;
	shim.C_Login = login;
	shim.C_GetSlotList = slots;
	shim.C_GetTokenInfo = token;
	shim.C_OpenSession = session;
	shim.C_GetSessionInfo = state;
	shim.C_FindObjectsInit = find;
	shim.C_GetAttributeValue = attributes;
	shim.C_SignInit = signinit;
	shim.C_Sign = sign;
	*list = &shim;
	return CKR_OK;
}
